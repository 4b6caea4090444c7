// tiercel chat: a conversation with a running server, in the terminal.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string>

#include "tools/client_session.h"
#include "tools/command.h"
#include "tools/commands.h"

namespace tiercel::tools {
namespace {

constexpr OptionSpec kChatOptions[] = {
    {"--system-prompt", Kind::kString, "", Effect::kUsed, "A system message to begin with."},
    {"--quick -q", Kind::kString, "", Effect::kUsed, "Send this one message, print the answer, end."},
};

const OptionTable& ChatTable() {
  static const OptionTable table({{"options", "Of tiercel chat.", kChatOptions},
                                  {"server", "The server to talk to.", kClientOptions}});
  return table;
}

constexpr CommandHelp kChatHelp = {
    "tiercel chat [options]",
    "A conversation with a running server. Ctrl-C stops an answer, Ctrl-D or /exit ends; /clear "
    "forgets the conversation.",
    ""};

api::Json Message(std::string_view role, std::string_view content) {
  return api::Json(api::Json::Object{{"role", api::Json(role)}, {"content", api::Json(content)}});
}

class Conversation {
 public:
  Conversation(ClientSession session, std::string system_prompt)
      : session_(std::move(session)), system_prompt_(std::move(system_prompt)) {
    Clear();
  }

  void Clear() {
    messages_.clear();
    if (!system_prompt_.empty()) messages_.push_back(Message("system", system_prompt_));
  }

  // Prints the answer as it comes. A stopped answer stays in the history as far as it came; a
  // failed question is taken back.
  Status Ask(const std::string& question) {
    messages_.push_back(Message("user", question));
    const api::Json body(api::Json::Object{{"model", api::Json(session_.model())},
                                           {"messages", api::Json(messages_)},
                                           {"stream", api::Json(true)}});
    std::string answer;
    Status status =
        session_.Stream("chat/completions", body, [&](const api::Json& event) {
          const std::string_view text = DeltaText(event);
          answer += text;
          std::fwrite(text.data(), 1, text.size(), stdout);
          std::fflush(stdout);
        });
    std::putchar('\n');
    if (status.code() == StatusCode::kCancelled) {
      std::puts("[stopped]");
      status = OkStatus();
    }
    if (status.ok()) {
      messages_.push_back(Message("assistant", answer));
    } else {
      messages_.pop_back();
    }
    return status;
  }

 private:
  ClientSession session_;
  const std::string system_prompt_;
  api::Json::Array messages_;
};

// Ctrl-C at the prompt ends the program, as in any shell tool; during an answer it stops that.
int Interact(Conversation* conversation) {
  const bool terminal = ::isatty(STDIN_FILENO) == 1;
  const bool color = WantsColor();
  std::string line;
  while (true) {
    if (terminal) {
      std::fputs(color ? "\x1b[1;32m> \x1b[0m" : "> ", stdout);
      std::fflush(stdout);
    }
    if (!std::getline(std::cin, line) || line == "/exit" || line == "/quit") break;
    if (line.empty()) continue;
    if (line == "/clear") {
      conversation->Clear();
      continue;
    }
    if (color) std::fputs("\x1b[36m", stdout);
    const Status status = conversation->Ask(line);
    if (color) std::fputs("\x1b[0m", stdout);
    if (status.ok()) continue;
    if (!terminal) return Failure("tiercel chat", status, kExitFailure);
    Failure("tiercel chat", status, kExitFailure);
  }
  if (terminal) std::putchar('\n');
  return kExitOk;
}

}  // namespace

CommandText DescribeChat() { return {kChatHelp, ChatTable()}; }

int RunChat(const std::vector<std::string>& words) {
  const auto options = ParseOptions(ChatTable(), words, 0);
  if (!options) return UsageError(kChatHelp, "tiercel chat", options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(ChatTable(), kChatHelp, "all").c_str(), stdout);
    return kExitOk;
  }
  auto session = ClientSession::Connect(*options);
  if (!session) return Failure("tiercel chat", session.error(), kExitFailure);
  if (!options->Given("quick")) std::printf("Using model: %s\n", session->model().c_str());
  Conversation conversation(std::move(*session), options->String("system-prompt"));
  if (options->Given("quick")) {
    const Status status = conversation.Ask(options->String("quick"));
    return status.ok() ? kExitOk : Failure("tiercel chat", status, kExitFailure);
  }
  return Interact(&conversation);
}

}  // namespace tiercel::tools
