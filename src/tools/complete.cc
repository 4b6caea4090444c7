// tiercel complete: completes text by a running server.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string>

#include "tools/client_session.h"
#include "tools/command.h"
#include "tools/commands.h"

namespace tiercel::tools {
namespace {

constexpr OptionSpec kCompleteOptions[] = {
    {"--quick -q", Kind::kString, "", Effect::kUsed, "Complete this one text and end."},
    {"--max-tokens", Kind::kInt, "", Effect::kUsed,
     "Most tokens to add. Default: the server's (16)."},
};

const OptionTable& CompleteTable() {
  static const OptionTable table({{"options", "Of tiercel complete.", kCompleteOptions},
                                  {"server", "The server to talk to.", kClientOptions}});
  return table;
}

constexpr CommandHelp kCompleteHelp = {
    "tiercel complete [options]",
    "Reads a text per line and prints how the model goes on. Ctrl-C stops an answer, Ctrl-D ends.",
    ""};

Status Complete(ClientSession* session, const ParsedOptions& options, const std::string& prompt) {
  api::Json body(api::Json::Object{{"model", api::Json(session->model())},
                                   {"prompt", api::Json(prompt)},
                                   {"stream", api::Json(true)}});
  if (options.Given("max-tokens")) body.Set("max_tokens", api::Json(options.Int("max-tokens")));
  Status status = session->Stream("completions", body, [](const api::Json& event) {
    const std::string_view text = DeltaText(event);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  });
  std::putchar('\n');
  return status.code() == StatusCode::kCancelled ? OkStatus() : status;
}

}  // namespace

CommandText DescribeComplete() { return {kCompleteHelp, CompleteTable()}; }

int RunComplete(const std::vector<std::string>& words) {
  const auto options = ParseOptions(CompleteTable(), words, 0);
  if (!options) return UsageError(kCompleteHelp, "tiercel complete", options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(CompleteTable(), kCompleteHelp, "all").c_str(), stdout);
    return kExitOk;
  }
  auto session = ClientSession::Connect(*options);
  if (!session) return Failure("tiercel complete", session.error(), kExitFailure);
  if (options->Given("quick")) {
    const Status status = Complete(&*session, *options, options->String("quick"));
    return status.ok() ? kExitOk : Failure("tiercel complete", status, kExitFailure);
  }
  const bool terminal = ::isatty(STDIN_FILENO) == 1;
  std::string line;
  while (true) {
    if (terminal) {
      std::fputs(WantsColor() ? "\x1b[1;32m> \x1b[0m" : "> ", stdout);
      std::fflush(stdout);
    }
    if (!std::getline(std::cin, line)) break;
    if (line.empty()) continue;
    const Status status = Complete(&*session, *options, line);
    if (!status.ok() && (Failure("tiercel complete", status, kExitFailure), !terminal)) return kExitFailure;
  }
  if (terminal) std::putchar('\n');
  return kExitOk;
}

}  // namespace tiercel::tools
