// The answer to POST /v1/chat/completions.
#include "api/json_writer.h"
#include "api/names.h"
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
      AppendJsonString(out, answer_.prompt_plan(i).role);
      out->append(R"(,"content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":)");
      AppendIdsOrNull(answer_.ShownPromptIds(i), out);
      Usage usage = answer_.UsageOf(i);
      usage.completion_tokens = 0;
      EndChunk(usage, out);
    }
  }

  void AppendChunk(int choice, bool is_first, std::string* out) override {
    out->append("data: ");
    AppendChunkHead(out);
    out->append(R"({"index":)");
    AppendJsonInt(out, choice);
    out->append(R"(,"delta":{)");
    AppendDelta(answer_.choice(choice).Take(), out);
    out->append(R"(},"logprobs":)");
    tokens(choice).logprobs.TakeTo(out);
    // stop_reason comes with the end alone.
    AppendFinish(choice, answer_.choice(choice).finish().has_value(), out);
    TakeTokenIds(choice, out);
    out->append("}]");
    EndChunk(answer_.UsageOf(choice), out);
  }

 private:
  // Both names of the thought: clients read one or the other.
  static void AppendReasoning(const std::string& reasoning, std::string* out) {
    for (const char* name : {R"("reasoning":)", R"(,"reasoning_content":)"}) {
      out->append(name);
      AppendJsonString(out, reasoning);
    }
  }

  // In a stream a call's id, type and name come with its first piece alone.
  void AppendCall(const text::ToolCallPiece& call, std::string* out) const {
    out->push_back('{');
    if (plan().stream) {
      out->append(R"("index":)");
      AppendJsonInt(out, static_cast<int64_t>(call.index));
      out->push_back(',');
    }
    const bool begins = !call.name.empty();
    if (begins) {
      out->append(R"("id":"chatcmpl-tool-)").append(RandomId());
      out->append(R"(","type":"function",)");
    }
    out->append(R"("function":{)");
    if (begins) {
      out->append(R"("name":)");
      AppendJsonString(out, call.name);
      out->push_back(',');
    }
    out->append(R"("arguments":)");
    AppendJsonString(out, call.arguments);
    out->append("}}");
  }

  void AppendCalls(const std::vector<text::ToolCallPiece>& calls, std::string* out) const {
    out->append(R"("tool_calls":[)");
    for (size_t i = 0; i < calls.size(); ++i) {
      if (i > 0) out->push_back(',');
      AppendCall(calls[i], out);
    }
    out->push_back(']');
  }

  // What a chunk adds. A last one that adds nothing says so with an empty content.
  void AppendDelta(const OutputDelta& delta, std::string* out) const {
    if (!delta.reasoning.empty()) {
      AppendReasoning(delta.reasoning, out);
      out->push_back(',');
    }
    if (!delta.content.empty() || !delta.shows_anything()) {
      out->append(R"("content":)");
      AppendJsonString(out, delta.content);
      out->push_back(',');
    }
    if (!delta.calls.empty()) {
      AppendCalls(delta.calls, out);
      out->push_back(',');
    }
    out->pop_back();
  }

  void AppendMessage(const OutputDelta& whole, const std::string& role, std::string* out) const {
    out->append(R"("role":)");
    AppendJsonString(out, role);
    out->append(R"(,"content":)");
    // Where nothing was said the content is null, if thought and calls are told apart from it.
    if (whole.content.empty() && (!whole.calls.empty() || plan().tells_thought())) {
      out->append("null");
    } else {
      AppendJsonString(out, whole.content);
    }
    out->append(R"(,"refusal":null,"annotations":null,"audio":null,"function_call":null,)");
    if (!whole.calls.empty()) {
      AppendCalls(whole.calls, out);
      out->push_back(',');
    }
    if (!whole.reasoning.empty()) {
      AppendReasoning(whole.reasoning, out);
    } else {
      out->append(plan().tells_thought() ? R"("reasoning":null,"reasoning_content":null)" : R"("reasoning":null)");
    }
  }

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
    out->append(R"(,"message":{)");
    AppendMessage(answer_.choice(choice).Take(), answer_.prompt_plan(choice).role, out);
    out->push_back('}');
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
