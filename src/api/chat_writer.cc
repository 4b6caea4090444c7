// The answer to POST /v1/chat/completions.
#include "api/json_writer.h"
#include "api/openai_writer.h"

namespace tiercel::api {

namespace {

class ChatWriter final : public OpenAiWriter {
 public:
  explicit ChatWriter(const Answer& answer)
      : OpenAiWriter(answer, "chat.completion", "chat.completion.chunk") {}

  void AddPrompt(int) override {}

  // The role, once for each choice.
  void AppendStart(std::string* out) override {
    for (int i = 0; i < answer_.num_choices(); ++i) {
      out->append("data: ");
      AppendChunkHead(out);
      out->append(R"({"index":)");
      AppendJsonInt(out, i);
      out->append(R"(,"delta":{"role":)");
      AppendJsonString(out, plan().role);
      out->append(R"(,"content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":)");
      AppendIdsOrNull(answer_.ShownPromptIds(i), out);
      Usage usage = answer_.UsageOf(i);
      usage.completion_tokens = 0;
      EndChunk(usage, out);
    }
  }

  void AppendChunk(int choice, std::string* out) override {
    out->append("data: ");
    AppendChunkHead(out);
    out->append(R"({"index":)");
    AppendJsonInt(out, choice);
    out->append(R"(,"delta":{"content":)");
    AppendJsonString(out, answer_.choice(choice).Take().content);
    out->append(R"(},"logprobs":)");
    tokens(choice).logprobs.TakeTo(out);
    // stop_reason comes with the end alone.
    AppendFinish(choice, answer_.choice(choice).finish().has_value(), out);
    TakeTokenIds(choice, out);
    out->append("}]");
    EndChunk(answer_.UsageOf(choice), out);
  }

 private:
  void EndChunk(const Usage& usage, std::string* out) const {
    if (plan().continuous_usage) {
      out->append(R"(,"usage":)");
      AppendUsage(usage, out);
    }
    out->append("}\n\n");
  }

  void AppendChoice(int choice, std::string* out) override {
    out->append(R"("index":)");
    AppendJsonInt(out, choice);
    out->append(R"(,"message":{"role":)");
    AppendJsonString(out, plan().role);
    out->append(R"(,"content":)");
    AppendJsonString(out, answer_.choice(choice).Take().content);
    out->append(
        R"(,"refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null})");
    out->append(R"(,"logprobs":)");
    tokens(choice).logprobs.TakeTo(out);
    AppendFinish(choice, true, out);
    TakeTokenIds(choice, out);
  }

  void AppendBodyMembers(std::string* out) override {
    out->append(R"(,"prompt_logprobs":)");
    if (plan().prompt_logprobs) {
      AppendPromptLogprobs(out, answer_.prompts[0].info.prompt_logprobs, plan());
    } else {
      out->append("null");
    }
    out->append(R"(,"prompt_token_ids":)");
    AppendIdsOrNull(answer_.ShownPromptIds(0), out);
  }
};

}  // namespace

std::unique_ptr<AnswerWriter> NewChatWriter(const Answer& answer) {
  return std::make_unique<ChatWriter>(answer);
}

}  // namespace tiercel::api
