// The answer to POST /v1/messages: blocks of thinking, text and tool use, in a stream as named events.
#include <optional>

#include "api/answer_writer.h"
#include "api/json_reader.h"
#include "api/json_writer.h"
#include "api/names.h"

namespace tiercel::api {

namespace {

class MessagesWriter final : public AnswerWriter {
 public:
  explicit MessagesWriter(const Answer& answer) : answer_(answer) {}

  void AddPrompt(int) override {}
  void AddTokens(int, std::span<const engine::OutputToken>) override {}
  int64_t pending_bytes(int) const override { return 0; }
  bool starts_at_once() const override { return true; }  // its client sees that it was heard, however long the prompt

  void AppendStart(std::string* out) override {
    Begin("message_start", out);
    out->append(R"(,"message":)");
    AppendMessageHead(out);
    out->append(R"("content":[],"stop_reason":null,"stop_sequence":null,"usage":)");
    AppendUsage(0, out);
    out->push_back('}');
    End(out);
  }

  void AppendChunk(int choice, bool, std::string* out) override {
    const OutputDelta delta = answer_.choice(choice).Take();
    if (!delta.reasoning.empty()) {
      OpenBlock({Kind::kThinking, 0}, "", out);
      AppendDelta(R"("thinking_delta","thinking":)", delta.reasoning, out);
    }
    if (!delta.content.empty()) {
      OpenBlock({Kind::kText, 0}, "", out);
      AppendDelta(R"("text_delta","text":)", delta.content, out);
    }
    for (const text::ToolCallPiece& call : delta.calls) {
      OpenBlock({Kind::kToolUse, call.index}, call.name, out);
      AppendDelta(R"("input_json_delta","partial_json":)", call.arguments, out);
    }
  }

  void AppendEnd(std::string* out) override {
    CloseBlock(out);
    Begin("message_delta", out);
    out->append(R"(,"delta":{)");
    AppendStop(out);
    out->append(R"(},"usage":)");
    AppendUsage(answer_.WholeUsage().completion_tokens, out);
    End(out);
    Begin("message_stop", out);
    End(out);
  }

  std::string TakeBody() override {
    const OutputDelta whole = answer_.choice(0).Take();
    std::string out;
    AppendMessageHead(&out);
    out += R"("content":[)";
    if (!whole.reasoning.empty()) {
      out += R"({"type":"thinking","thinking":)";
      AppendJsonString(&out, whole.reasoning);
      out += R"(,"signature":""},)";
    }
    if (!whole.content.empty()) {
      out += R"({"type":"text","text":)";
      AppendJsonString(&out, whole.content);
      out += "},";
    }
    for (const text::ToolCallPiece& call : whole.calls) {
      AppendToolUse(call.name, &out);
      AppendInput(call.arguments, &out);
      out += "},";
    }
    if (out.back() == ',') out.pop_back();
    out += "],";
    AppendStop(&out);
    out += R"(,"usage":)";
    AppendUsage(answer_.WholeUsage().completion_tokens, &out);
    out += '}';
    return out;
  }

 private:
  enum class Kind { kThinking, kText, kToolUse };
  struct Block {
    Kind kind;
    size_t call;  // of kToolUse
    bool operator==(const Block&) const = default;
  };

  const ResponsePlan& plan() const { return answer_.plan; }

  static void Begin(std::string_view event, std::string* out) {
    out->append("event: ").append(event).append("\ndata: {\"type\":\"").append(event).push_back('"');
  }
  static void End(std::string* out) { out->append("}\n\n"); }

  // To where "content" follows.
  void AppendMessageHead(std::string* out) const {
    out->append(R"({"id":)");
    AppendJsonString(out, plan().id);
    out->append(R"(,"type":"message","role":"assistant","model":)");
    AppendJsonString(out, plan().model);
    out->push_back(',');
  }

  void AppendUsage(int64_t output_tokens, std::string* out) const {
    const Usage usage = answer_.WholeUsage();
    out->append(R"({"input_tokens":)");
    // Tokens that were found in the cache are counted apart, where they are told at all.
    const int64_t cached = plan().prompt_tokens_details ? usage.cached_tokens : 0;
    AppendJsonInt(out, usage.prompt_tokens - cached);
    out->append(R"(,"cache_creation_input_tokens":0,"cache_read_input_tokens":)");
    AppendJsonInt(out, cached);
    out->append(R"(,"output_tokens":)");
    AppendJsonInt(out, output_tokens);
    out->push_back('}');
  }

  void AppendStop(std::string* out) const {
    const OutputFinish& finish = *answer_.choice(0).finish();
    const auto* sequence = std::get_if<std::string>(&finish.stop);
    std::string_view reason;
    switch (finish.end) {
      case OutputEnd::kStop: reason = sequence != nullptr ? "stop_sequence" : "end_turn"; break;
      case OutputEnd::kLength: reason = "max_tokens"; break;
      case OutputEnd::kRepetition:
      case OutputEnd::kAbort: reason = "end_turn"; break;
      case OutputEnd::kToolCalls: reason = "tool_use"; break;
    }
    out->append(R"("stop_reason":")").append(reason).append(R"(","stop_sequence":)");
    if (sequence != nullptr && finish.end == OutputEnd::kStop) {
      AppendJsonString(out, *sequence);
    } else {
      out->append("null");
    }
  }

  // To where "input" has its value.
  static void AppendToolUse(const std::string& name, std::string* out) {
    out->append(R"({"type":"tool_use","id":"toolu_)").append(RandomId()).append(R"(","name":)");
    AppendJsonString(out, name);
    out->append(R"(,"input":)");
  }

  // The input is an object: arguments that are none (cut by the length, broken by the model) stay
  // readable under a name of their own.
  static void AppendInput(const std::string& arguments, std::string* out) {
    if (const auto parsed = ParseJson(arguments); parsed && parsed->object() != nullptr) {
      out->append(arguments);
      return;
    }
    out->append(R"({"INVALID_JSON":)");
    AppendJsonString(out, arguments);
    out->push_back('}');
  }

  void AppendIndex(std::string* out) const {
    out->append(R"(,"index":)");
    AppendJsonInt(out, num_blocks_ - 1);
  }

  void CloseBlock(std::string* out) {
    if (!block_) return;
    block_.reset();
    Begin("content_block_stop", out);
    AppendIndex(out);
    End(out);
  }

  void OpenBlock(Block block, const std::string& name, std::string* out) {
    if (block_ == block) return;
    CloseBlock(out);
    block_ = block;
    ++num_blocks_;
    Begin("content_block_start", out);
    AppendIndex(out);
    out->append(R"(,"content_block":)");
    switch (block.kind) {
      case Kind::kThinking: out->append(R"({"type":"thinking","thinking":"","signature":""})"); break;
      case Kind::kText: out->append(R"({"type":"text","text":""})"); break;
      case Kind::kToolUse:
        AppendToolUse(name, out);
        out->append("{}}");
        break;
    }
    End(out);
  }

  void AppendDelta(std::string_view type_and_key, const std::string& text, std::string* out) const {
    Begin("content_block_delta", out);
    AppendIndex(out);
    out->append(R"(,"delta":{"type":)").append(type_and_key);
    AppendJsonString(out, text);
    out->push_back('}');
    End(out);
  }

  const Answer& answer_;
  std::optional<Block> block_;  // that is open
  int64_t num_blocks_ = 0;      // opened so far
};

}  // namespace

std::unique_ptr<AnswerWriter> NewMessagesWriter(const Answer& answer) {
  return std::make_unique<MessagesWriter>(answer);
}

}  // namespace tiercel::api
