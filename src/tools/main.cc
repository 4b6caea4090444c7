// tiercel: one program, one subcommand each.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "platform/bus_error.h"
#include "serving/version.h"
#include "text/template_worker.h"
#include "tools/command.h"
#include "tools/commands.h"

namespace tiercel::tools {
namespace {

std::string Usage() {
  return fmt::format("tiercel [-h] [-v] {{{}}} ...", PlainNames(Subcommands()));
}

std::string MainHelp() {
  std::string text = fmt::format(
      "usage: {}\n\nServes language models on the CPU, as `vllm serve` does.\n\ncommands:\n", Usage());
  for (const Subcommand& command : Subcommands()) {
    text += fmt::format("  {:<14}{}\n", command.name, command.summary);
  }
  return text +
         "\noptions:\n  -h, --help    this text; `tiercel COMMAND --help` for a command's flags\n"
         "  -v, --version the version\n";
}

int Main(const std::vector<std::string>& words) {
  if (words.empty() || words[0] == "-h" || words[0] == "--help") {
    std::fputs(MainHelp().c_str(), stdout);
    return kExitOk;
  }
  if (words[0] == "-v" || words[0] == "--version") {
    std::puts(TIERCEL_VERSION);
    return kExitOk;
  }
  if (words[0] == text::kTemplateWorkerCommand) return text::RunTemplateWorker();  // not for users
  for (const Subcommand& command : Subcommands()) {
    if (command.name == words[0]) return command.run({words.begin() + 1, words.end()});
  }
  const std::string usage = Usage();
  return UsageError({usage, "", ""}, "tiercel",
                    fmt::format("invalid choice: '{}' (choose from {})", words[0],
                                QuotedNames(Subcommands())));
}

// What was printed is what was asked for: a script must not take half of it for all.
int FinishOutput(int code) {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  // Of a write that failed before the reason is gone.
  std::fputs(fmt::format("tiercel: standard output cannot be written{}\n",
                         errno != 0 ? fmt::format(": {}", std::strerror(errno)) : "").c_str(), stderr);
  return code == kExitOk ? kExitFailure : code;
}

}  // namespace
}  // namespace tiercel::tools

int main(int argc, char** argv) {
  tiercel::platform::ReportBusErrors();
  // A write beyond the limit of a file's size shall fail like one to a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
  return tiercel::tools::FinishOutput(tiercel::tools::Main(std::vector<std::string>(argv + 1, argv + argc)));
}
