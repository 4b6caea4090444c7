// Random outputs in random splits: what is streamed adds up to what is not, in every part of an answer.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "api/json_reader.h"
#include "api/responder.h"
#include "api/response_test_util.h"

namespace tiercel::api {
namespace {

using engine::FinishReason;

#ifdef TIERCEL_SANITIZED
constexpr int kCases = 5000;
#else
constexpr int kCases = 100000;
#endif

// What may mean something to one of the readers on the way, whole and in parts, and what never does.
constexpr const char* kFragments[] = {
    "<think>", "</think>", "<thi", "</", "<", ">", "<tool_call>", "</tool_call>", "<tool_", "\n", "\n\n", " ",
    R"({"name": "f", "arguments": {"a": 1}})", R"({"name": "g", "arguments": {)", R"("k": "v \" } <", )",
    R"({"name": ")", R"(", "arguments": )", "{", "}", "[", "]", "\"", "\\", ":", ",", "null", "STOP", "ST",
    "OP", "plain words", "价格", "🌶", "\xE5\xAE", "\xF0\x9F\x8C", "\xFF", "<|", "é",
    "<function=f>", "<parameter=a>", "</parameter>", "</function>", "[f(a=", "b='x', ", ")]", "(", "; ", "<|python_tag|>"};

std::string RandomText(std::mt19937* random) {
  std::string text;
  // Half of all: the shape of a real answer, with anything in between.
  const bool shaped = (*random)() % 2 == 0;
  const auto noise = [&] {
    for (size_t i = (*random)() % 4; i > 0; --i) {
      text += kFragments[(*random)() % std::size(kFragments)];
    }
  };
  noise();
  if (shaped) {
    text += "</think>\n\n";
    noise();
    for (size_t calls = (*random)() % 3; calls > 0; --calls) {
      text += "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"";
      noise();
      text += "\"}}\n</tool_call>";
      noise();
    }
  }
  noise();
  return text;
}

// The parts of one choice, joined.
struct Parts {
  std::string reasoning, reasoning_content, content, finish, logprobs, ids;
  std::vector<std::string> calls;  // name and arguments of each
};

void AddString(const Json& object, const char* key, std::string* to) {
  const Json* value = object.Find(key);
  if (value != nullptr && value->string() != nullptr) *to += *value->string();
}

void AddCalls(const Json& object, bool streamed, Parts* parts) {
  const Json* calls = object.Find("tool_calls");
  if (calls == nullptr) return;
  for (size_t i = 0; i < calls->array()->size(); ++i) {
    const Json& call = (*calls->array())[i];
    const auto index =
        streamed ? static_cast<size_t>(*At(call, {"index"}).integer()) : parts->calls.size();
    // The first piece of a call, and it alone, has an id and a name.
    const bool begins = index == parts->calls.size();
    ASSERT_EQ(call.Find("id") != nullptr, begins);
    ASSERT_EQ(At(call, {"function"}).Find("name") != nullptr, begins);
    if (begins) parts->calls.push_back(*At(call, {"function", "name"}).string() + "\n");
    parts->calls.at(index) += *At(call, {"function", "arguments"}).string();
  }
}

void AddEntries(const Json& choice, bool chat, Parts* parts) {
  const Json& logprobs = At(choice, {"logprobs"});
  for (const char* array : chat ? std::vector{"content"} : std::vector{"tokens", "text_offset"}) {
    if (logprobs.is_null()) continue;
    for (const Json& item : *At(logprobs, {array}).array()) parts->logprobs += item.Dump() + ",";
  }
  if (const Json* ids = choice.Find("token_ids"); ids != nullptr && ids->array() != nullptr) {
    for (const Json& id : *ids->array()) parts->ids += id.Dump() + ",";
  }
}

void AddEnd(const Json& choice, Parts* parts) {
  if (At(choice, {"finish_reason"}).is_null()) return;
  parts->finish += At(choice, {"finish_reason"}).Dump() + At(choice, {"stop_reason"}).Dump();
}

void AddChoice(const Json& choice, bool chat, bool streamed, Parts* parts) {
  if (!chat) {
    AddString(choice, "text", &parts->content);
  } else {
    const Json& message = At(choice, {streamed ? "delta" : "message"});
    AddString(message, "reasoning", &parts->reasoning);
    AddString(message, "reasoning_content", &parts->reasoning_content);
    AddString(message, "content", &parts->content);
    AddCalls(message, streamed, parts);
  }
  AddEntries(choice, chat, parts);
  AddEnd(choice, parts);
}

ResponsePlan RandomPlan(bool chat, std::mt19937* random) {
  const auto coin = [random] { return (*random)() % 2 == 0; };
  ResponsePlan plan = Plan(chat, true);
  plan.include_usage = true;
  plan.stream_interval = coin() ? 1 : 3;
  // Offsets of completions restart with no chunk, so text_offset is compared as well.
  if ((*random)() % 4 == 0) plan.logprobs = 1;
  plan.return_token_ids = (*random)() % 4 == 0;
  if (coin()) plan.detokenizer.stop = text::StopStrings({"STOP", "tool"});
  plan.detokenizer.include_stop_str_in_output = coin();
  if (!chat) return plan;
  if (coin()) plan.prompts[0].thinks = coin();
  plan.include_reasoning = (*random)() % 4 != 0;
  if (coin()) plan.max_tool_calls = coin() ? 1 : 9;
  constexpr text::ToolFormat kFormats[] = {text::ToolFormat::kHermes, text::ToolFormat::kQwen3Coder,
                                           text::ToolFormat::kLlama3Json, text::ToolFormat::kPythonic};
  plan.tool_format = kFormats[(*random)() % std::size(kFormats)];
  return plan;
}

// The events of an answer whose tokens come in random pieces, taken at random times.
std::string Streamed(ResponsePlan plan, const std::vector<int32_t>& ids, FinishReason reason,
                     std::mt19937* random) {
  Responder responder(std::move(plan));
  ScriptedStream stream;
  std::string events;
  for (size_t at = 0; at < ids.size() && !responder.done();) {
    const size_t end = std::min(ids.size(), at + 1 + (*random)() % 12);
    stream.Put(Event({ids.begin() + static_cast<ptrdiff_t>(at), ids.begin() + static_cast<ptrdiff_t>(end)},
                     end == ids.size() ? reason : FinishReason::kNone));
    responder.Consume(0, &stream);
    if ((*random)() % 2 == 0) responder.TakeEvents(&events);
    at = end;
  }
  responder.TakeEvents(&events);
  EXPECT_TRUE(responder.done());
  // What is kept of a response.
  if (responder.plan().protocol == Protocol::kResponses) {
    EXPECT_TRUE(events.ends_with("\"response\":" + responder.TakeBody() + "}\n\n"));
  }
  return events;
}

// The body of the same answer, its tokens all at once.
Json Whole(ResponsePlan plan, const std::vector<int32_t>& ids, FinishReason reason) {
  Responder responder(std::move(plan));
  ScriptedStream stream;
  stream.Put(Event(ids, reason));
  responder.Consume(0, &stream);
  EXPECT_TRUE(responder.done());
  auto body = ParseJson(responder.TakeBody());
  EXPECT_TRUE(body);
  return body ? std::move(*body) : Json();
}

TEST(StreamedAnswers, AddUpToTheWholeAnswer) {
  std::mt19937 random(12);
  for (int i = 0; i < kCases; ++i) {
    const bool chat = i % 4 != 0;
    ResponsePlan streamed_plan = RandomPlan(chat, &random);
    ResponsePlan whole_plan = streamed_plan;
    whole_plan.stream = false;
    const std::string text = RandomText(&random);
    std::vector<int32_t> ids = Bytes(text);
    const FinishReason reasons[] = {FinishReason::kStop, FinishReason::kLength, FinishReason::kAbort};
    const FinishReason reason = reasons[random() % 3];
    if (reason == FinishReason::kStop) ids.push_back(kImEnd);
    if (ids.empty()) continue;

    const std::string chunks = Streamed(std::move(streamed_plan), ids, reason, &random);
    const Json body = Whole(std::move(whole_plan), ids, reason);

    Parts from_chunks, from_body;
    const std::vector<Json> events = Events(chunks);
    for (size_t e = 0; e + 1 < events.size(); ++e) {
      AddChoice(At(events[e], {"choices", "0"}), chat, true, &from_chunks);
    }
    AddChoice(At(body, {"choices", "0"}), chat, false, &from_body);
    ASSERT_EQ(from_chunks.content, from_body.content) << text;
    ASSERT_EQ(from_chunks.reasoning, from_body.reasoning) << text;
    ASSERT_EQ(from_chunks.reasoning_content, from_body.reasoning) << text;
    ASSERT_EQ(from_chunks.calls, from_body.calls) << text;
    ASSERT_EQ(from_chunks.finish, from_body.finish) << text;
    ASSERT_EQ(from_chunks.ids, from_body.ids) << text;
    ASSERT_EQ(At(events.back(), {"usage"}).Dump(), At(body, {"usage"}).Dump()) << text;
    if (chat) { ASSERT_EQ(from_chunks.logprobs, from_body.logprobs) << text; }
    // Nothing is shown twice or made up: no part is longer than what the model wrote.
    ASSERT_LE(from_body.content.size() + from_body.reasoning.size(), 3 * text.size());
  }
}

// A message of Anthropic's protocol: its thought, its text, its tools' names and inputs.
struct MessageParts {
  std::string thinking, text, stop, usage;
  std::vector<std::string> tools;

  bool operator==(const MessageParts&) const = default;
};

// What an input becomes when it has come whole: itself as an object, or under a name for what is none.
std::string InputOf(const std::string& json) {
  const auto parsed = ParseJson(json);
  if (parsed && parsed->object() != nullptr) return parsed->Dump();
  Json::Object invalid;
  invalid.push_back({"INVALID_JSON", Json(json)});
  return Json(std::move(invalid)).Dump();
}

MessageParts OfBody(const Json& body) {
  MessageParts parts;
  for (const Json& block : *At(body, {"content"}).array()) {
    const std::string& type = *At(block, {"type"}).string();
    if (type == "thinking") AddString(block, "thinking", &parts.thinking);
    if (type == "text") AddString(block, "text", &parts.text);
    if (type == "tool_use") {
      parts.tools.push_back(*At(block, {"name"}).string() + At(block, {"input"}).Dump());
    }
  }
  parts.stop = At(body, {"stop_reason"}).Dump() + At(body, {"stop_sequence"}).Dump();
  parts.usage = At(body, {"usage"}).Dump();
  return parts;
}

MessageParts OfEvents(const std::string& text) {
  MessageParts parts;
  std::vector<std::string> inputs;
  int64_t open = -1, opened = -1;  // the block that is open, the last one that was
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find("\n\n", begin);
    const size_t data = text.find("\ndata: ", begin);
    const Json event = *ParseJson(std::string_view(text).substr(data + 7, end - data - 7));
    const std::string& type = *At(event, {"type"}).string();
    EXPECT_EQ(text.substr(begin, data - begin), "event: " + type);
    begin = end + 2;
    if (type == "content_block_start") {
      EXPECT_EQ(open, -1);
      open = *At(event, {"index"}).integer();
      EXPECT_EQ(open, ++opened);
      if (*At(event, {"content_block", "type"}).string() == "tool_use") {
        parts.tools.push_back(*At(event, {"content_block", "name"}).string());
        inputs.emplace_back();
      }
    } else if (type == "content_block_stop") {
      EXPECT_EQ(*At(event, {"index"}).integer(), open);
      open = -1;
    } else if (type == "content_block_delta") {
      EXPECT_EQ(*At(event, {"index"}).integer(), open);
      AddString(At(event, {"delta"}), "thinking", &parts.thinking);
      AddString(At(event, {"delta"}), "text", &parts.text);
      if (!inputs.empty()) AddString(At(event, {"delta"}), "partial_json", &inputs.back());
    } else if (type == "message_delta") {
      parts.stop = At(event, {"delta", "stop_reason"}).Dump() + At(event, {"delta", "stop_sequence"}).Dump();
      parts.usage = At(event, {"usage"}).Dump();
    }
  }
  EXPECT_EQ(open, -1);
  for (size_t i = 0; i < inputs.size(); ++i) parts.tools[i] += InputOf(inputs[i]);
  return parts;
}

// A response of OpenAI's: its items' types and texts, log-probabilities, and all that stands behind them.
struct ResponseParts {
  std::vector<std::string> items;
  std::string logprobs, end;

  bool operator==(const ResponseParts&) const = default;
};

void AddLogprobs(const Json& part, std::string* to) {
  const Json* entries = part.Find("logprobs");
  if (entries == nullptr) return;
  for (const Json& entry : *entries->array()) *to += entry.Dump() + ",";
}

ResponseParts OfResponse(const Json& response) {
  ResponseParts parts;
  for (const Json& item : *At(response, {"output"}).array()) {
    std::string text = *At(item, {"type"}).string() + "|" + *At(item, {"status"}).string() + "|";
    if (item.Find("content") != nullptr) {
      const Json& part = At(item, {"content", "0"});
      AddString(part, "text", &text);
      AddLogprobs(part, &parts.logprobs);
    }
    AddString(item, "name", &text);
    AddString(item, "arguments", &text);
    parts.items.push_back(text);
  }
  parts.end = At(response, {"status"}).Dump() + At(response, {"incomplete_details"}).Dump() +
              At(response, {"usage"}).Dump();
  return parts;
}

// What the deltas add up to, and the response of the last event, which must agree.
ResponseParts OfResponseEvents(const std::string& text) {
  ResponseParts parts;
  std::vector<std::string> deltas;
  std::string logprobs, done_logprobs;
  int64_t number = 0;
  Json last;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find("\n\n", begin);
    const size_t data = text.find("\ndata: ", begin);
    last = *ParseJson(std::string_view(text).substr(data + 7, end - data - 7));
    const std::string& type = *At(last, {"type"}).string();
    EXPECT_EQ(text.substr(begin, data - begin), "event: " + type);
    EXPECT_EQ(*At(last, {"sequence_number"}).integer(), number++);
    begin = end + 2;
    if (type == "response.output_item.added") deltas.emplace_back();
    if (type.ends_with(".delta")) AddString(last, "delta", &deltas.back());
    if (type == "response.output_text.delta") AddLogprobs(last, &logprobs);
    if (type == "response.output_text.done") AddLogprobs(last, &done_logprobs);
  }
  parts = OfResponse(At(last, {"response"}));
  EXPECT_EQ(logprobs, parts.logprobs);
  EXPECT_EQ(done_logprobs, parts.logprobs);
  EXPECT_EQ(deltas.size(), parts.items.size());
  for (size_t i = 0; i < deltas.size(); ++i) EXPECT_TRUE(parts.items[i].ends_with(deltas[i]));
  return parts;
}

// `of_events` of what is streamed is `of_body` of the whole answer, for random outputs.
template <typename OfEvents, typename OfBody>
void ExpectAddUp(Protocol protocol, uint32_t seed, OfEvents&& of_events, OfBody&& of_body) {
  std::mt19937 random(seed);
  for (int i = 0; i < kCases / 4; ++i) {
    ResponsePlan streamed_plan = RandomPlan(true, &random);
    streamed_plan.protocol = protocol;
    ResponsePlan whole_plan = streamed_plan;
    whole_plan.stream = false;
    const std::string text = RandomText(&random);
    std::vector<int32_t> ids = Bytes(text);
    ids.push_back(kImEnd);
    const FinishReason reason = random() % 2 == 0 ? FinishReason::kStop : FinishReason::kLength;
    const std::string events = Streamed(std::move(streamed_plan), ids, reason, &random);
    ASSERT_EQ(of_events(events), of_body(Whole(std::move(whole_plan), ids, reason))) << text;
  }
}

TEST(StreamedAnswers, MessagesAddUpToTheWholeMessage) {
  ExpectAddUp(Protocol::kMessages, 13, OfEvents, OfBody);
}

TEST(StreamedAnswers, ResponsesAddUpToTheWholeResponse) {
  ExpectAddUp(Protocol::kResponses, 17, OfResponseEvents, OfResponse);
}

struct Forced {
  std::optional<bool> thinks;
  bool tools;
  const char* text;
  const char* message;  // what the message must have
  const char* finish;
};

TEST(StreamedAnswers, ForcedOutputsGiveTheirParts) {
  const Forced cases[] = {
      {true, false, "abc</think>\n\nxyz", R"("content":"xyz")", "stop"},
      {true, false, "abc", R"("content":null)", "stop"},
      {false, false, "abc", R"("content":"abc")", "stop"},
      {std::nullopt, false, "<think>a</think>b", R"("content":"<think>a</think>b")", "stop"},
      {std::nullopt, true, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}}</tool_call>",
       R"("type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}])", "tool_calls"},
      {std::nullopt, true, "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>",
       R"("content":null)", "tool_calls"},
      {std::nullopt, false, "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>",
       R"("content":"<tool_call>)", "stop"},
      {true, true, "hm<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>",
       R"("reasoning":"hm","reasoning_content":"hm"})", "tool_calls"},
      {true, true, "<think>\n\n</think>\n\nok", R"("reasoning":null,"reasoning_content":null})", "stop"},
  };
  for (const Forced& c : cases) {
    ResponsePlan plan = Plan(true, false);
    plan.prompts[0].thinks = c.thinks;
    plan.max_tool_calls = c.tools ? 9 : 0;
    Responder responder(std::move(plan));
    ScriptedStream stream;
    std::vector<int32_t> ids = Bytes(c.text);
    ids.push_back(kImEnd);
    stream.Put(Event(ids, FinishReason::kStop));
    responder.Consume(0, &stream);
    const std::string body = responder.TakeBody();
    EXPECT_NE(body.find(c.message), std::string::npos) << body;
    EXPECT_EQ(*At(*ParseJson(body), {"choices", "0", "finish_reason"}).string(), c.finish) << body;
  }
}

// A token a byte: what is thought, or the text of a call, has no entry in the message.
TEST(StreamedAnswers, LogprobsOfResponsesAreOfTheMessage) {
  const std::pair<const char*, const char*> cases[] = {
      {"ab</think>xyz<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>", "xyz"},
      {"ab</think>xyz<tool_call>\nno call", "xyz<tool_call>\nno call"},
      {"ab</think>xyz<tool_", "xyz<tool_"},
      {"ab</think>xyz", "xyz"},
  };
  for (const auto& [text, expected] : cases) {
    ResponsePlan plan = Plan(true, false);
    plan.protocol = Protocol::kResponses;
    plan.prompts[0].thinks = true;
    plan.logprobs = 0;
    plan.max_tool_calls = 9;
    Responder responder(std::move(plan));
    ScriptedStream stream;
    stream.Put(Event(Bytes(text), FinishReason::kLength));
    responder.Consume(0, &stream);
    const Json body = *ParseJson(responder.TakeBody());
    std::string tokens;
    for (const Json& entry : *At(body, {"output", "1", "content", "0", "logprobs"}).array()) {
      AddString(entry, "token", &tokens);
    }
    EXPECT_EQ(tokens, expected);
    EXPECT_EQ(*At(body, {"output", "1", "content", "0", "text"}).string(), expected);
  }
}

TEST(StreamedAnswers, TokensOfThoughtAreCounted) {
  ResponsePlan plan = Plan(true, false);
  plan.prompts[0].thinks = true;
  Responder responder(std::move(plan));
  ScriptedStream stream;
  stream.Put(Event(Bytes("abc</think>xy"), FinishReason::kLength));  // a token a byte
  responder.Consume(0, &stream);
  const auto body = ParseJson(responder.TakeBody());
  // "abc", and all but the last byte of the tag, which was no tag before it was whole.
  EXPECT_EQ(*At(*body, {"usage", "completion_tokens_details", "reasoning_tokens"}).integer(), 10);
  EXPECT_EQ(*At(*body, {"usage", "completion_tokens"}).integer(), 13);
}

}  // namespace
}  // namespace tiercel::api
