#include "api/responder.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "api/json_reader.h"
#include "api/response_test_util.h"
#include "text/utf8_cases.h"

namespace tiercel::api {
namespace {

using engine::FinishReason;

std::string StreamedContent(const std::vector<Json>& events) {
  std::string text;
  for (const Json& event : events) {
    if (At(event, {"choices"}).array()->empty()) continue;
    const Json* delta = At(event, {"choices", "0"}).Find("delta");
    const Json* content = delta ? delta->Find("content") : At(event, {"choices", "0"}).Find("text");
    if (content != nullptr) text += *content->string();
  }
  return text;
}

TEST(Responder, ChatBodyHasEveryField) {
  Responder responder(Plan(true, false));
  ScriptedStream stream;
  stream.Put(Event(Bytes("hi")));
  stream.Put(Event({kImEnd}, FinishReason::kStop));
  responder.Consume(0, &stream);
  ASSERT_TRUE(responder.done());
  EXPECT_EQ(responder.TakeBody(),
            R"({"id":"id","object":"chat.completion","created":0,"model":"test","choices":[{"index":0,)"
            R"("message":{"role":"assistant","content":"hi","refusal":null,"annotations":null,)"
            R"("audio":null,"function_call":null,"reasoning":null},"logprobs":null,)"
            R"("finish_reason":"stop","stop_reason":null,"token_ids":null}],"service_tier":null,)"
            R"("system_fingerprint":null,"usage":{"prompt_tokens":3,"total_tokens":6,)"
            R"("completion_tokens":3,"prompt_tokens_details":null},"prompt_logprobs":null,)"
            R"("prompt_token_ids":null,"kv_transfer_params":null})");
}

TEST(Responder, ChatChunks) {
  ResponsePlan plan = Plan(true, true);
  plan.include_usage = true;
  Responder responder(std::move(plan));
  ScriptedStream stream;
  std::string out;
  responder.TakeEvents(&out);
  EXPECT_EQ(out, "");
  stream.Put(Event(Bytes("h")));
  responder.Consume(0, &stream);
  responder.TakeEvents(&out);
  stream.Put(Event({kImEnd}, FinishReason::kStop));
  responder.Consume(0, &stream);
  responder.TakeEvents(&out);
  const std::string head =
      R"(data: {"id":"id","object":"chat.completion.chunk","created":0,"model":"test","choices":[)";
  EXPECT_EQ(out,
            head + R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,)"
                   R"("finish_reason":null}],"prompt_token_ids":null})" "\n\n" +
            head + R"({"index":0,"delta":{"content":"h"},"logprobs":null,"finish_reason":null,)"
                   R"("token_ids":null}]})" "\n\n" +
            head + R"({"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop",)"
                   R"("stop_reason":null,"token_ids":null}]})" "\n\n" +
            head + R"(],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2,)"
                   R"("prompt_tokens_details":null}})" "\n\ndata: [DONE]\n\n");
}

// Multi-byte text, cut at every place and in random steps: what is streamed adds up.
TEST(Responder, StreamingEqualsNotStreaming) {
  const std::string text = "é客单价🌶 end ZZ tail";
  std::mt19937 random(1);
  for (const char* stop : {"", "ZZ", "tail!", "价"}) {
    for (int round = 0; round < 40; ++round) {
      for (const bool chat : {true, false}) {
        ResponsePlan streamed = Plan(chat, true);
        streamed.logprobs = 1;
        streamed.return_token_ids = round % 2 == 0;
        if (*stop != '\0') streamed.detokenizer.stop = text::StopStrings({stop});
        ResponsePlan whole = streamed;
        whole.stream = false;
        Responder a(std::move(streamed));
        Responder b(std::move(whole));
        ScriptedStream stream_a;
        ScriptedStream stream_b;
        std::string events_text;
        const std::vector<int32_t> ids = Bytes(text);
        for (size_t i = 0; i < ids.size() && !a.done();) {
          const size_t count = std::min<size_t>(ids.size() - i, 1 + random() % 4);
          const auto event =
              Event({ids.begin() + static_cast<ptrdiff_t>(i), ids.begin() + static_cast<ptrdiff_t>(i + count)},
                    i + count == ids.size() ? FinishReason::kLength : FinishReason::kNone);
          stream_a.Put(event);
          stream_b.Put(event);
          a.Consume(0, &stream_a);
          b.Consume(0, &stream_b);
          if (random() % 2 == 0) a.TakeEvents(&events_text);
          i += count;
        }
        a.TakeEvents(&events_text);
        ASSERT_TRUE(a.done() && b.done());
        const std::vector<Json> events = Events(events_text);
        const auto body = ParseJson(b.TakeBody());
        ASSERT_TRUE(body);
        const Json& choice = At(*body, {"choices", "0"});
        const std::string content = chat ? *At(choice, {"message", "content"}).string()
                                         : *At(choice, {"text"}).string();
        EXPECT_EQ(StreamedContent(events), content);
        const size_t cut = *stop == '\0' ? std::string::npos : text.find(stop);
        EXPECT_EQ(content, text.substr(0, cut));
        EXPECT_EQ(At(events.back(), {"choices", "0", "finish_reason"}).Dump(),
                  At(choice, {"finish_reason"}).Dump());
        EXPECT_EQ(At(events.back(), {"choices", "0", "stop_reason"}).Dump(),
                  At(choice, {"stop_reason"}).Dump());
        // Logprobs: the same entries, none lost and none twice.
        std::string entries;
        for (const Json& event : events) {
          const Json& logprobs = At(event, {"choices", "0", "logprobs"});
          if (logprobs.is_null()) continue;
          const Json& list = At(logprobs, {chat ? "content" : "tokens"});
          for (const Json& item : *list.array()) entries += item.Dump() + ",";
        }
        std::string whole_entries;
        for (const Json& item : *At(choice, {"logprobs", chat ? "content" : "tokens"}).array()) {
          whole_entries += item.Dump() + ",";
        }
        EXPECT_EQ(entries, whole_entries);
      }
    }
  }
}

TEST(Responder, StopStringStopsTheSample) {
  ResponsePlan plan = Plan(true, false);
  plan.detokenizer.stop = text::StopStrings({"b"});
  Responder responder(std::move(plan));
  ScriptedStream stream;
  stream.Put(Event(Bytes("abc")));
  responder.Consume(0, &stream);
  EXPECT_EQ(stream.stopped, std::vector<int>{0});
  ASSERT_TRUE(responder.done());
  const std::string body = responder.TakeBody();
  EXPECT_NE(body.find(R"("content":"a")"), std::string::npos);
  EXPECT_NE(body.find(R"("finish_reason":"stop","stop_reason":"b")"), std::string::npos);
  EXPECT_NE(body.find(R"("completion_tokens":2)"), std::string::npos);  // c is not counted
}

TEST(Responder, NoEmptyChunksWhileTextIsHeldBack) {
  ResponsePlan plan = Plan(false, true);
  plan.detokenizer.stop = text::StopStrings({"aaaaaaaab"});
  Responder responder(std::move(plan));
  ScriptedStream stream;
  std::string out;
  for (int i = 0; i < 8; ++i) {
    stream.Put(Event(Bytes("a")));
    responder.Consume(0, &stream);
    responder.TakeEvents(&out);
    EXPECT_EQ(out, "");
  }
  stream.Put(Event(Bytes("c"), FinishReason::kLength));
  responder.Consume(0, &stream);
  responder.TakeEvents(&out);
  const auto events = Events(out);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(*At(events[0], {"choices", "0", "text"}).string(), "aaaaaaaac");
}

TEST(Responder, EchoedLogprobsBeginWithNull) {
  ResponsePlan plan = Plan(false, false);
  plan.logprobs = 1;
  plan.echo_logprobs = true;
  plan.prompts[0] = {2, "é!", {0xC3, 0xA9, '!'}};
  Responder responder(std::move(plan));
  ScriptedStream stream;
  engine::PromptInfo info;
  info.prompt_logprobs = {{}, {{0xA9, -1.0f, 1}}, {{'!', -INFINITY, 9}}};
  stream.PutInfo(std::move(info));
  stream.Put(Event(Bytes("x"), FinishReason::kLength));
  responder.Consume(0, &stream);
  const auto body = ParseJson(responder.TakeBody());
  ASSERT_TRUE(body);
  const Json& choice = At(*body, {"choices", "0"});
  EXPECT_EQ(*At(choice, {"text"}).string(), "é!x");
  EXPECT_EQ(At(choice, {"logprobs", "token_logprobs"}).Dump(), "[null,-1.0,-9999.0,-0.5]");
  EXPECT_EQ(At(choice, {"logprobs", "tokens"}).Dump(), R"(["","é","!","x"])");
  EXPECT_EQ(At(choice, {"logprobs", "text_offset"}).Dump(), "[0,0,1,2]");
  EXPECT_TRUE(At(choice, {"logprobs", "top_logprobs", "0"}).is_null());
}

TEST(Responder, PromptEntriesAreOneForEachTokenWithItsPlace) {
  ResponsePlan plan = Plan(false, false);
  plan.prompt_logprobs = true;
  Responder responder(std::move(plan));
  ScriptedStream stream;
  engine::PromptInfo info;
  // 'b' ties with 'a' and is listed second; 'z' is not among the most likely.
  info.prompt_logprobs = {{},
                          {{'b', -1.0f, 2}, {'a', -1.0f, 1}, {'b', -1.0f, 2}},
                          {{'a', -1.0f, 2}, {'a', -1.0f, 1}, {'b', -1.0f, 2}},
                          {{'z', -9.0f, 7}, {'a', -1.0f, 1}}};
  stream.PutInfo(std::move(info));
  stream.Put(Event(Bytes("x"), FinishReason::kLength));
  responder.Consume(0, &stream);
  const auto body = ParseJson(responder.TakeBody());
  ASSERT_TRUE(body);
  const Json& entries = At(*body, {"choices", "0", "prompt_logprobs"});
  const auto rank = [&](const char* position, char token) {
    const std::string id = std::to_string(int{token});
    return *At(entries, {position, id.c_str(), "rank"}).integer();
  };
  EXPECT_TRUE(At(entries, {"0"}).is_null());
  EXPECT_EQ(rank("1", 'b'), 2);
  EXPECT_EQ(rank("1", 'a'), 1);
  EXPECT_EQ(rank("2", 'a'), 1);
  EXPECT_EQ(rank("2", 'b'), 2);
  EXPECT_EQ(rank("3", 'z'), 7);
}

// The characters of valid UTF-8, as Python counts them.
std::vector<std::string> Characters(const std::string& text) {
  std::vector<std::string> characters;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) characters.emplace_back();
    characters.back() += c;
  }
  return characters;
}

// Whatever bytes prompt and output are made of and wherever the output ends, the tokens of a
// completion's log-probabilities joined are its text, and each begins at its offset.
TEST(Responder, TokensJoinedAreTheText) {
  for (const text::Utf8Case& prompt : text::kUtf8Cases) {
    for (const text::Utf8Case& output : text::kUtf8Cases) {
      if (prompt.bytes().empty() || output.bytes().empty()) continue;
      ResponsePlan plan = Plan(false, false);
      plan.logprobs = 1;
      plan.echo_logprobs = true;
      plan.prompts[0] = {1, text::WithReplacements(prompt.whole), Bytes(prompt.bytes())};
      Responder responder(std::move(plan));
      ScriptedStream stream;
      stream.Put(Event(Bytes(output.bytes()), FinishReason::kLength));
      responder.Consume(0, &stream);
      const auto body = ParseJson(responder.TakeBody());
      ASSERT_TRUE(body);
      const std::string text = *At(*body, {"choices", "0", "text"}).string();
      EXPECT_EQ(text, text::WithReplacements(prompt.whole) + text::WithReplacements(output.piece));
      const Json& logprobs = At(*body, {"choices", "0", "logprobs"});
      const Json::Array& tokens = *At(logprobs, {"tokens"}).array();
      const Json::Array& offsets = *At(logprobs, {"text_offset"}).array();
      std::string joined;
      for (size_t i = 0; i < tokens.size(); ++i) {
        EXPECT_EQ(*offsets[i].integer(), static_cast<int64_t>(Characters(joined).size()));
        joined += *tokens[i].string();
      }
      EXPECT_EQ(joined, text) << prompt.hex << " + " << output.hex;
    }
  }
}

// However an answer ends, bytes of an unfinished character are no text; log-probabilities keep them.
TEST(Responder, AnUnfinishedCharacterIsLeftOut) {
  for (const FinishReason reason : {FinishReason::kLength, FinishReason::kAbort, FinishReason::kStop}) {
    for (const bool chat : {true, false}) {
      for (const bool streamed : {true, false}) {
        ResponsePlan plan = Plan(chat, streamed);
        plan.logprobs = 0;
        Responder responder(std::move(plan));
        ScriptedStream stream;
        std::vector<int32_t> ids = Bytes("ab\xF0\x9F\x8C");
        if (reason == FinishReason::kStop) ids.push_back(kImEnd);
        stream.Put(Event(ids, reason));
        responder.Consume(0, &stream);
        std::string out, content;
        if (streamed) {
          responder.TakeEvents(&out);
          content = StreamedContent(Events(out));
        } else {
          out = responder.TakeBody();
          const Json body = *ParseJson(out);
          const Json& choice = At(body, {"choices", "0"});
          content = chat ? *At(choice, {"message", "content"}).string() : *At(choice, {"text"}).string();
        }
        EXPECT_EQ(content, "ab");
        if (chat) {
          EXPECT_NE(out.find(R"("bytes":[240])"), std::string::npos);
          EXPECT_NE(out.find(R"("bytes":[140])"), std::string::npos);
        }
      }
    }
  }
}

TEST(Responder, SeveralPromptsAndSamplesKeepTheirIndex) {
  ResponsePlan plan = Plan(false, false);
  plan.n = 2;
  plan.prompts.push_back({4, "", {}, "assistant", std::nullopt});
  Responder responder(std::move(plan));
  ScriptedStream streams[2];
  streams[1].Put(Event(Bytes("d"), FinishReason::kLength, 1));
  streams[1].Put(Event(Bytes("c"), FinishReason::kLength, 0));
  streams[0].Put(Event(Bytes("b"), FinishReason::kLength, 1));
  streams[0].Put(Event(Bytes("a"), FinishReason::kLength, 0));
  responder.Consume(1, &streams[1]);
  EXPECT_FALSE(responder.done());
  responder.Consume(0, &streams[0]);
  const auto body = ParseJson(responder.TakeBody());
  ASSERT_TRUE(body);
  std::string texts;
  for (const char* i : {"0", "1", "2", "3"}) {
    EXPECT_EQ(At(*body, {"choices", i, "index"}).Dump(), i);
    texts += *At(*body, {"choices", i, "text"}).string();
  }
  EXPECT_EQ(texts, "abcd");
  EXPECT_EQ(At(*body, {"usage", "prompt_tokens"}).Dump(), "7");
}

TEST(Responder, FailureIsOneErrorEventAndNoInternals) {
  Responder responder(Plan(true, true));
  ScriptedStream stream;
  engine::StreamEvent event;
  event.finish = FinishReason::kError;
  event.error = Internal("bad pointer 0x7fff1234 in /src/engine.cc");
  stream.Put(event);
  responder.Consume(0, &stream);
  std::string out;
  responder.TakeEvents(&out);
  EXPECT_NE(out.find(R"("code":500)"), std::string::npos);
  EXPECT_EQ(out.find("0x7f"), std::string::npos);
  EXPECT_EQ(Events(out).size(), 1u);
}

TEST(Responder, AnErrorHasTheNextNumberOfAResponsesEvents) {
  for (const bool said : {false, true}) {
    ResponsePlan plan = Plan(true, true);
    plan.protocol = Protocol::kResponses;
    Responder responder(std::move(plan));
    ScriptedStream stream;
    std::string out;
    responder.TakeEvents(&out);  // a response is known before its first token
    EXPECT_EQ(responder.num_events(), 2);
    if (said) {
      stream.Put(Event(Bytes("a")));
      responder.Consume(0, &stream);
      responder.TakeEvents(&out);
    }
    engine::StreamEvent event;
    event.finish = FinishReason::kError;
    event.error = InvalidArgument("no");
    stream.Put(event);
    responder.Consume(0, &stream);
    responder.TakeEvents(&out);
    int64_t number = 0;
    Json last;
    for (size_t begin = 0; begin < out.size(); begin = out.find("\n\n", begin) + 2) {
      const size_t data = out.find("\ndata: ", begin) + 7;
      last = *ParseJson(std::string_view(out).substr(data, out.find("\n\n", begin) - data));
      EXPECT_EQ(*At(last, {"sequence_number"}).integer(), number++);
    }
    EXPECT_EQ(number, said ? 6 : 3);
    EXPECT_EQ(*At(last, {"type"}).string(), "error");
    EXPECT_EQ(*At(last, {"message"}).string(), "no");
  }
}

// A chunk's usage is its own choice's; the role has cost nothing yet.
TEST(Responder, UsageOfAChunkIsItsChoices) {
  for (const bool chat : {true, false}) {
    ResponsePlan plan = Plan(chat, true);
    plan.continuous_usage = true;
    plan.include_usage = true;
    plan.n = 2;
    if (!chat) plan.prompts.push_back({5, "", {}, "assistant", std::nullopt});
    const int prompts = static_cast<int>(plan.prompts.size());
    Responder responder(std::move(plan));
    std::string out;
    std::vector<ScriptedStream> streams(static_cast<size_t>(prompts));
    for (int step = 1; step <= 3; ++step) {
      for (int prompt = 0; prompt < prompts; ++prompt) {
        ScriptedStream& stream = streams[static_cast<size_t>(prompt)];
        // The second sample gets two tokens a step.
        const FinishReason finish = step == 3 ? FinishReason::kLength : FinishReason::kNone;
        stream.Put(Event(Bytes("a"), finish, 0));
        stream.Put(Event(Bytes("bc"), finish, 1));
        responder.Consume(prompt, &stream);
      }
      responder.TakeEvents(&out);
    }
    const std::vector<Json> events = Events(out);
    std::map<int64_t, int64_t> seen;  // tokens, by choice
    for (size_t i = 0; i + 1 < events.size(); ++i) {
      const Json& choice = At(events[i], {"choices", "0"});
      const int64_t index = *At(choice, {"index"}).integer();
      const Json* delta = choice.Find("delta");
      if (delta == nullptr || delta->Find("role") == nullptr) seen[index] += index % 2 == 0 ? 1 : 2;
      EXPECT_EQ(*At(events[i], {"usage", "completion_tokens"}).integer(), seen[index]);
      EXPECT_EQ(*At(events[i], {"usage", "prompt_tokens"}).integer(), index < 2 ? 3 : 5);
    }
    EXPECT_EQ(*At(events.back(), {"usage", "completion_tokens"}).integer(), prompts * 9);
    EXPECT_EQ(*At(events.back(), {"usage", "prompt_tokens"}).integer(), chat ? 3 : 8);
  }
}

TEST(Responder, StreamIntervalMergesTokens) {
  ResponsePlan plan = Plan(false, true);
  plan.stream_interval = 3;
  Responder responder(std::move(plan));
  ScriptedStream stream;
  std::string out;
  for (const char c : std::string("abcdefg")) {
    stream.Put(Event({c}, c == 'g' ? FinishReason::kLength : FinishReason::kNone));
    responder.Consume(0, &stream);
    responder.TakeEvents(&out);
  }
  std::vector<std::string> texts;
  for (const Json& event : Events(out)) texts.push_back(*At(event, {"choices", "0", "text"}).string());
  EXPECT_EQ(texts, (std::vector<std::string>{"a", "bcd", "efg"}));
}

}  // namespace
}  // namespace tiercel::api
