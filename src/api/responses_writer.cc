// The answer to POST /v1/responses: items of thought, text and function calls, in a stream as named and
// numbered events.
#include "api/responses_writer.h"

#include <deque>
#include <string_view>
#include <vector>

#include "api/answer_writer.h"
#include "api/json_writer.h"
#include "api/logprobs_writer.h"
#include "api/names.h"

namespace tiercel::api {

namespace {

class ResponsesWriter final : public AnswerWriter {
 public:
  explicit ResponsesWriter(const Answer& answer) : answer_(answer), logprobs_(answer.plan) {}

  void AddPrompt(int) override {}
  void AddTokens(int, std::span<const engine::OutputToken> tokens) override {
    if (!plan().logprobs) return;
    held_.insert(held_.end(), tokens.begin(), tokens.end());
    TakeLogprobs();
  }
  int64_t pending_bytes(int) const override { return logprobs_.pending_bytes(); }
  int64_t num_events() const override { return num_events_; }
  bool starts_at_once() const override { return true; }  // its client may go as soon as it knows the id

  void AppendStart(std::string* out) override {
    for (const char* event : {"response.created", "response.in_progress"}) {
      Begin(event, out);
      out->append(R"(,"response":)");
      out->append(ResponseBody(plan(), "in_progress"));
      End(out);
    }
  }

  void AppendChunk(int choice, bool, std::string* out) override {
    TakeLogprobs();
    const OutputDelta delta = answer_.choice(choice).Take();
    if (!delta.reasoning.empty()) AddDelta({Kind::kReasoning, 0}, "", delta.reasoning, out);
    if (!delta.content.empty()) AddDelta({Kind::kMessage, 0}, "", delta.content, out);
    for (const text::ToolCallPiece& call : delta.calls) {
      AddDelta({Kind::kCall, call.index}, call.name, call.arguments, out);
    }
  }

  void AppendEnd(std::string* out) override {
    CloseItem(StatusOfLast(), out);
    Begin(fmt::format("response.{}", Status()), out);
    out->append(R"(,"response":)");
    AppendEnded(out);
    End(out);
  }

  std::string TakeBody() override {
    TakeLogprobs();
    const OutputDelta whole = answer_.choice(0).Take();
    if (!whole.reasoning.empty()) NewItem({Kind::kReasoning, 0}, "").text = whole.reasoning;
    if (!whole.content.empty()) {
      Item& message = NewItem({Kind::kMessage, 0}, "");
      message.text = whole.content;
      message.logprobs = logprobs_.TakeEntries();
    }
    for (const text::ToolCallPiece& call : whole.calls) {
      NewItem({Kind::kCall, call.index}, call.name).text = call.arguments;
    }
    std::string body;
    AppendEnded(&body);
    return body;
  }

 private:
  enum class Kind { kReasoning, kMessage, kCall };
  struct Place {
    Kind kind;
    size_t call;  // of kCall
    bool operator==(const Place&) const = default;
  };
  struct Item {
    Place place;
    std::string id, call_id, name, text;
    std::string logprobs;  // entries
  };

  const ResponsePlan& plan() const { return answer_.plan; }

  // Of the tokens that certainly are the message's.
  void TakeLogprobs() {
    const OutputAssembler& choice = answer_.choice(0);
    for (; !held_.empty() && num_taken_ < choice.content_end(); ++num_taken_, held_.pop_front()) {
      if (num_taken_ >= choice.content_begin()) logprobs_.Add(held_.front());
    }
    if (choice.has_calls()) held_.clear();  // no more are
  }

  // ---- events

  void Begin(std::string_view event, std::string* out) {
    out->append("event: ").append(event).append("\ndata: {\"type\":\"").append(event);
    out->append(R"(","sequence_number":)");
    AppendJsonInt(out, num_events_++);
  }
  static void End(std::string* out) { out->append("}\n\n"); }

  // Of the last item; its one part, where it has parts.
  void BeginOfItem(std::string_view event, std::string* out) {
    Begin(event, out);
    out->append(R"(,"item_id":")").append(items_.back().id).append(R"(","output_index":)");
    AppendJsonInt(out, static_cast<int64_t>(items_.size()) - 1);
    if (items_.back().place.kind != Kind::kCall) out->append(R"(,"content_index":0)");
  }

  static std::string_view DeltaEvent(Kind kind) {
    switch (kind) {
      case Kind::kReasoning: return "response.reasoning_text";
      case Kind::kMessage: return "response.output_text";
      case Kind::kCall: return "response.function_call_arguments";
    }
    return "";
  }

  void AddDelta(Place place, const std::string& name, const std::string& text, std::string* out) {
    if (!is_open_ || items_.back().place != place) {
      CloseItem("completed", out);
      OpenItem(place, name, out);
    }
    Item& item = items_.back();
    item.text += text;
    BeginOfItem(fmt::format("{}.delta", DeltaEvent(place.kind)), out);
    out->append(R"(,"delta":)");
    AppendJsonString(out, text);
    if (place.kind == Kind::kMessage) {
      const std::string entries = logprobs_.TakeEntries();
      AppendLogprobs(entries, out);
      if (!item.logprobs.empty() && !entries.empty()) item.logprobs.push_back(',');
      item.logprobs += entries;
    }
    End(out);
  }

  static void AppendLogprobs(const std::string& entries, std::string* out) {
    out->append(R"(,"logprobs":[)").append(entries).push_back(']');
  }

  void OpenItem(Place place, const std::string& name, std::string* out) {
    NewItem(place, name);
    is_open_ = true;
    AppendItemEvent("response.output_item.added", "in_progress", /*ended=*/false, out);
    if (place.kind != Kind::kCall) AppendPartEvent("response.content_part.added", Item{place, "", "", "", "", ""}, out);
  }

  void CloseItem(std::string_view status, std::string* out) {
    if (!is_open_) return;
    // Tokens without text, such as the last one's end.
    if (items_.back().place.kind == Kind::kMessage && !logprobs_.empty()) {
      AddDelta(items_.back().place, "", "", out);
    }
    is_open_ = false;
    const Item& item = items_.back();
    BeginOfItem(fmt::format("{}.done", DeltaEvent(item.place.kind)), out);
    if (item.place.kind == Kind::kCall) {
      out->append(R"(,"name":)");
      AppendJsonString(out, item.name);
      out->append(R"(,"arguments":)");
    } else {
      out->append(R"(,"text":)");
    }
    AppendJsonString(out, item.text);
    if (item.place.kind == Kind::kMessage) AppendLogprobs(item.logprobs, out);
    End(out);
    if (item.place.kind != Kind::kCall) AppendPartEvent("response.content_part.done", item, out);
    AppendItemEvent("response.output_item.done", status, /*ended=*/true, out);
  }

  void AppendItemEvent(std::string_view event, std::string_view status, bool ended, std::string* out) {
    Begin(event, out);
    out->append(R"(,"output_index":)");
    AppendJsonInt(out, static_cast<int64_t>(items_.size()) - 1);
    out->append(R"(,"item":)");
    AppendItem(items_.back(), status, ended, out);
    End(out);
  }

  // `shown`: the last item as far as the event shows it.
  void AppendPartEvent(std::string_view event, const Item& shown, std::string* out) {
    BeginOfItem(event, out);
    out->append(R"(,"part":)");
    AppendPart(shown, out);
    End(out);
  }

  // ---- items

  Item& NewItem(Place place, const std::string& name) {
    const std::string_view prefix = place.kind == Kind::kReasoning ? "rs_"
                                    : place.kind == Kind::kMessage ? "msg_"
                                                                   : "fc_";
    items_.push_back({place, std::string(prefix) + RandomId(), "call_" + RandomId(), name, "", ""});
    return items_.back();
  }

  static void AppendPart(const Item& item, std::string* out) {
    const bool is_thought = item.place.kind == Kind::kReasoning;
    out->append(is_thought ? R"({"type":"reasoning_text","text":)" : R"({"type":"output_text","text":)");
    AppendJsonString(out, item.text);
    if (!is_thought) {
      out->append(R"(,"annotations":[])");
      AppendLogprobs(item.logprobs, out);
    }
    out->push_back('}');
  }

  // An item that has not ended has no text yet.
  static void AppendItem(const Item& item, std::string_view status, bool ended, std::string* out) {
    out->append(R"({"id":")").append(item.id).append(R"(","status":")").append(status).append(R"(",)");
    switch (item.place.kind) {
      case Kind::kReasoning:
        out->append(R"("type":"reasoning","summary":[],"encrypted_content":null,"content":[)");
        if (ended) AppendPart(item, out);
        out->append("]}");
        return;
      case Kind::kMessage:
        out->append(R"("type":"message","role":"assistant","content":[)");
        if (ended) AppendPart(item, out);
        out->append("]}");
        return;
      case Kind::kCall:
        out->append(R"("type":"function_call","call_id":")").append(item.call_id).append(R"(","name":)");
        AppendJsonString(out, item.name);
        out->append(R"(,"arguments":)");
        AppendJsonString(out, ended ? item.text : std::string());
        out->push_back('}');
        return;
    }
  }

  // ---- the response

  std::string_view Status() const {
    switch (answer_.choice(0).finish()->end) {
      case OutputEnd::kStop:
      case OutputEnd::kRepetition:
      case OutputEnd::kToolCalls: return "completed";
      case OutputEnd::kLength: return "incomplete";
      case OutputEnd::kAbort: break;
    }
    return "failed";
  }
  std::string_view StatusOfLast() const { return Status() == "completed" ? "completed" : "incomplete"; }

  void AppendEnded(std::string* out) const {
    std::string output;
    for (size_t i = 0; i < items_.size(); ++i) {
      if (i > 0) output.push_back(',');
      AppendItem(items_[i], i + 1 == items_.size() ? StatusOfLast() : "completed", true, &output);
    }
    std::string usage;
    AppendUsage(&usage);
    const bool aborted = Status() == "failed";
    out->append(ResponseBody(plan(), Status(), {output, usage, aborted ? "The response was aborted." : ""}));
  }

  void AppendUsage(std::string* out) const {
    const Usage usage = answer_.WholeUsage();
    const auto add = [&](std::string_view before, int64_t value) {
      out->append(before);
      AppendJsonInt(out, value);
    };
    add(R"({"input_tokens":)", usage.prompt_tokens);
    add(R"(,"input_tokens_details":{"cached_tokens":)",
        plan().prompt_tokens_details ? usage.cached_tokens : 0);
    add(R"(},"output_tokens":)", usage.completion_tokens);
    add(R"(,"output_tokens_details":{"reasoning_tokens":)", usage.reasoning_tokens);
    add(R"(},"total_tokens":)", usage.prompt_tokens + usage.completion_tokens);
    out->push_back('}');
  }

  const Answer& answer_;
  std::vector<Item> items_;  // in their order, the last may be open
  bool is_open_ = false;
  int64_t num_events_ = 0;
  std::deque<engine::OutputToken> held_;  // where log-probabilities are shown: those that may be of the message
  int64_t num_taken_ = 0;                 // of the tokens before them
  LogprobsWriter logprobs_;               // of the message, that were not written yet
};

}  // namespace

std::string ResponseBody(const ResponsePlan& plan, std::string_view status, const ResponseEnd& end) {
  std::string out = R"({"id":)";
  AppendJsonString(&out, plan.id);
  out += R"(,"object":"response","created_at":)";
  AppendJsonInt(&out, plan.created);
  out.append(R"(,"status":")").append(status).append(R"(","model":)");
  AppendJsonString(&out, plan.model);
  out.append(",").append(plan.echo).append(R"("error":)");
  if (end.fault.empty()) {
    out += "null";
  } else {
    out += R"({"code":"server_error","message":)";
    AppendJsonString(&out, end.fault);
    out += '}';
  }
  out += R"(,"incomplete_details":)";
  out += status == "incomplete" ? R"({"reason":"max_output_tokens"})" : "null";
  out.append(R"(,"output":[)").append(end.output).append(R"(],"usage":)");
  return out.append(end.usage).append("}");
}

std::unique_ptr<AnswerWriter> NewResponsesWriter(const Answer& answer) {
  return std::make_unique<ResponsesWriter>(answer);
}

}  // namespace tiercel::api
