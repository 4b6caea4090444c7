// tiercel: one program, one subcommand each.
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "platform/bus_error.h"
#include "serving/version.h"
#include "text/template_worker.h"
#include "tools/command.h"

namespace tiercel::tools {
namespace {

struct Subcommand {
  std::string_view name;
  std::string_view summary;
  int (*run)(const std::vector<std::string>&);
};

constexpr Subcommand kSubcommands[] = {
    {"serve", "Serve a model over the OpenAI API.", &RunServe},
    {"chat", "Talk to a running server.", &RunChat},
    {"complete", "Let a running server complete text.", &RunComplete},
    {"run-batch", "Run a file of requests, without a server.", &RunRunBatch},
    {"eval", "Measure how well a model predicts a text.", &RunEval},
    {"bench", "Measure a server, or the engine in this process.", &RunBench},
    {"quantize", "Write a float model as W8A8.", &RunQuantize},
    {"collect-env", "Show what this machine offers, for reports.", &RunCollectEnv},
};

std::string MainHelp() {
  std::string text =
      "usage: tiercel [-h] [-v] {serve,chat,complete,run-batch,eval,bench,quantize,collect-env} ...\n\n"
      "Serves language models on the CPU, as `vllm serve` does.\n\ncommands:\n";
  for (const Subcommand& command : kSubcommands) {
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
  for (const Subcommand& command : kSubcommands) {
    if (command.name == words[0]) return command.run({words.begin() + 1, words.end()});
  }
  return UsageError({"tiercel [-h] [-v] {serve,chat,complete,run-batch,eval,bench,quantize,collect-env} ...", "", ""},
                    "tiercel",
                    fmt::format("invalid choice: '{}' (choose from 'serve', 'chat', 'complete', "
                                "'run-batch', 'eval', 'bench', 'quantize', 'collect-env')",
                                words[0]));
}

}  // namespace

int UsageError(const CommandHelp& command, std::string_view name, const std::string& message) {
  std::fputs(fmt::format("usage: {}\n{}: error: {}\n", command.usage, name, message).c_str(),
             stderr);
  return kExitUsage;
}

}  // namespace tiercel::tools

int main(int argc, char** argv) {
  tiercel::platform::ReportBusErrors();
  return tiercel::tools::Main(std::vector<std::string>(argv + 1, argv + argc));
}
