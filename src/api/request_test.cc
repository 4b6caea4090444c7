// Bodies and the exact errors that they give, and what good bodies become.
#include "api/request.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "api/json_reader.h"
#include "api/names.h"
#include "api/prepare.h"
#include "api/test_support.h"
#include "api/text_bodies.h"

namespace tiercel::api {
namespace {

struct Case {
  const char* body;
  int status;
  const char* message;  // the exact text
  const char* param;    // null: none
};

class Requests : public testing::Test {
 protected:
  void ExpectErrors(bool chat, std::initializer_list<Case> cases) {
    for (const Case& c : cases) {
      const auto result = chat ? PrepareChat(c.body, "", model_, options_)
                               : PrepareCompletion(c.body, "", model_, options_);
      ASSERT_FALSE(result) << c.body;
      EXPECT_EQ(result.error().http_status, c.status) << c.body;
      EXPECT_EQ(result.error().message, c.message) << c.body;
      EXPECT_EQ(result.error().param.value_or("(none)"), c.param ? c.param : "(none)") << c.body;
    }
  }

  PreparedRequest Completion(std::string_view body) {
    auto result = PrepareCompletion(body, "", model_, options_);
    EXPECT_TRUE(result) << body << ": " << result.error().message;
    return std::move(*result);
  }
  PreparedRequest Chat(std::string_view body) {
    auto result = PrepareChat(body, "", model_, options_);
    EXPECT_TRUE(result) << body << ": " << result.error().message;
    return std::move(*result);
  }
  std::string Prompt(const PreparedRequest& request, size_t i = 0) {
    return model_.tokenizer->Decode(request.requests.at(i).prompt, false);
  }

  ModelInfo model_ = TestModel();
  ApiOptions options_;
};

#define MESSAGES R"("messages":[{"role":"user","content":"hi"}])"

TEST_F(Requests, CompletionErrors) {
  ExpectErrors(false, {
    {R"({})", 400, "Either prompt or prompt_embeds must be provided and non-empty.", "prompt"},
    {R"({"prompt":""})", 400, "Either prompt or prompt_embeds must be provided and non-empty.", "prompt"},
    {R"({"prompt":[]})", 400, "Either prompt or prompt_embeds must be provided and non-empty.", "prompt"},
    {R"({"prompt":[[]]})", 400, "Either prompt or prompt_embeds must be provided and non-empty.", "prompt"},
    {R"({"prompt":[""]})", 400, "Either prompt or prompt_embeds must be provided and non-empty.", "prompt"},
    {R"({"prompt":[-1]})", 400, "Token id -1 is out of vocabulary (parameter=prompt, value=-1)", "prompt"},
    {R"({"prompt":[258]})", 400, "Token id 258 is out of vocabulary (parameter=prompt, value=258)", "prompt"},
    {R"({"prompt":"a","model":"other"})", 404, "The model `other` does not exist.", "model"},
    {R"({"prompt":"a","temperature":3})", 400,
     "temperature must be in [0, 2], got 3.0. (parameter=temperature, value=3)", "temperature"},
    {R"({"prompt":"a","n":0})", 400, "n must be at least 1, got 0. (parameter=n, value=0)", "n"},
    {R"({"prompt":"a","top_k":-2})", 400,
     "top_k must be 0 (disable), or at least 1, got -2. (parameter=top_k, value=-2)", "top_k"},
    {R"({"prompt":"a","max_tokens":0})", 400,
     "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)", "max_tokens"},
    {R"({"prompt":"a","max_tokens":129})", 400,
     "max_tokens=129 cannot be greater than max_model_len=128. Please request fewer output tokens."
     " (parameter=max_tokens, value=129)", "max_tokens"},
    {R"({"prompt":"a","logprobs":-5})", 400,
     "`logprobs` must be a positive value or -1. (parameter=logprobs, value=-5)", "logprobs"},
    {R"({"prompt":"a","prompt_logprobs":-2})", 400,
     "`prompt_logprobs` must be a positive value or -1. (parameter=prompt_logprobs, value=-2)",
     "prompt_logprobs"},
    {R"({"prompt":"a","prompt_logprobs":1,"stream":true})", 400,
     "`prompt_logprobs` are not available when `stream=True`. (parameter=prompt_logprobs, value=1)",
     "prompt_logprobs"},
    {R"({"prompt":"a","logprobs":21})", 400,
     "Requested sample logprobs of 21, which is greater than max allowed: 20"
     " (parameter=logprobs, value=21)", "logprobs"},
    {R"({"prompt":"a","stream_options":{"include_usage":true}})", 400,
     "Stream options can only be defined when `stream=True`.", "stream_options"},
    {R"({"prompt":"a","stop":["a",""]})", 400, "stop cannot contain an empty string.", "stop"},
    {R"({"prompt":"a","suffix":"b"})", 400, "suffix is not currently supported", "suffix"},
    {R"({"prompt":"a","priority":1})", 400,
     "Got priority 1 but Priority scheduling is not enabled.", "priority"},
    {R"({"prompt":"a","cache_salt":""})", 400,
     "Parameter 'cache_salt' must be a non-empty string if provided.", "cache_salt"},
    {R"({"prompt":"a","prompt_embeds":"AAAA"})", 400,
     "`prompt_embeds` are not supported: send text or token ids.", "prompt_embeds"},
    {R"({"prompt":"a","use_beam_search":true,"stream":true})", 400,
     "Streaming is not currently supported with beam search", "stream"},
    {R"({"prompt":"a","use_beam_search":true,"logit_bias":{"1":2}})", 400,
     "`logit_bias` is not supported with beam search.", "logit_bias"},
    {R"({"prompt":"a","use_beam_search":true,"presence_penalty":1})", 400,
     "`presence_penalty` is not supported with beam search.", "presence_penalty"},
    {R"({"prompt":"a","use_beam_search":true,"guided":0,"response_format":{"type":"json_object"}})", 400,
     "`response_format` is not supported with beam search.", "response_format"},
    {R"({"prompt":"a","use_beam_search":true,"n":129})", 400,
     "n must be at most 128 with beam search, got 129. (parameter=n, value=129)", "n"},
    {R"({"prompt":"a","repetition_detection":{"max_pattern_size":2,"min_count":1}})", 400,
     "min_count must be at least 2, got 1.", "repetition_detection"},
    {R"({"prompt":"a","repetition_detection":{"max_pattern_size":2049,"min_count":2}})", 400,
     "max_pattern_size must be between 0 and 2048, got 2049.", "repetition_detection"},
    {R"({"prompt":"a","repetition_detection":{"max_pattern_size":1,"min_pattern_size":2}})", 400,
     "min_pattern_size must be between 0 and max_pattern_size=1, got 2.", "repetition_detection"},
    {R"({"prompt":"a","repetition_detection":{"max_pattern_size":"x"}})", 400,
     "1 validation error:\n  {'type': 'int_type', 'loc': ('body', 'repetition_detection',"
     " 'max_pattern_size'), 'msg': 'Input should be a valid integer', 'input': \"x\"}", "repetition_detection.max_pattern_size"},
    {R"({"prompt":"a","repetition_detection":true})", 400,
     "1 validation error:\n  {'type': 'dict_type', 'loc': ('body', 'repetition_detection'), 'msg':"
     " 'Input should be a valid dictionary', 'input': true}", "repetition_detection"},
    {R"({"prompt":"a","max_tokens":"many","top_p":[]})", 400,
     "2 validation errors:\n"
     "  {'type': 'float_type', 'loc': ('body', 'top_p'), 'msg': 'Input should be a valid number',"
     " 'input': []}\n"
     "  {'type': 'int_type', 'loc': ('body', 'max_tokens'), 'msg': 'Input should be a valid"
     " integer', 'input': \"many\"}", "top_p"},
  });
}

TEST_F(Requests, ChatErrors) {
  ExpectErrors(true, {
    {R"({})", 400,
     "1 validation error:\n  {'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field "
     "required'}", "messages"},
    {R"({"messages":[]})", 400,
     "`messages` must not be an empty array. (parameter=messages, value=[])", "messages"},
    {R"({"messages":[{"content":"x"}]})", 400,
     "1 validation error:\n  {'type': 'missing', 'loc': ('body', 'messages', 0, 'role'), 'msg': "
     "'Field required'}", "messages.0.role"},
    {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://169.254.169.254/"}}]}]})",
     400, "Content part of type 'image_url' is not supported: the model is text only.", "messages"},
    {"{" MESSAGES R"(,"top_logprobs":2})", 400,
     "when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs"},
    {"{" MESSAGES R"(,"tools":[]})", 400,
     "`tools` must not be an empty array. Either provide at least one tool or omit the field "
     "entirely. (parameter=tools, value=[])", "tools"},
    {"{" MESSAGES R"(,"tool_choice":"required"})", 400,
     "When using `tool_choice`, `tools` must be set.", "tool_choice"},
    {"{" MESSAGES R"(,"tools":[{"type":"function","function":{"name":"f"}}]})", 400,
     "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set",
     "tool_choice"},
    {"{" MESSAGES R"(,"continue_final_message":true,"add_generation_prompt":true})", 400,
     "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
     "continue_final_message"},
    {"{" MESSAGES R"(,"chat_template":"x"})", 400,
     "Chat template is passed with request, but --trust-request-chat-template is not set. "
     "Refused request with untrusted chat template.", "chat_template"},
    {R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}]})",
     400,
     "Invalid JSON in tool_calls arguments: JSON decode error at byte 2: expected a key, found the "
     "end of the text", "messages"},
  });
}

// Pydantic's conversions outside of its strict mode (its table of them), which vLLM's models use, and
// the types that vLLM's models give their fields.
TEST_F(Requests, ValuesAreTakenAsVllmTakesThem) {
  const auto status = [&](bool chat, const std::string& body) {
    const auto prepared = chat ? PrepareChat(body, "", model_, options_)
                               : PrepareCompletion(body, "", model_, options_);
    return prepared ? 200 : prepared.error().http_status;
  };
  const std::pair<const char*, int> completions[] = {
      {R"("max_tokens":true)", 200},   {R"("max_tokens":false)", 400},  // 0 tokens
      {R"("max_tokens":"5")", 200},    {R"("max_tokens":" 5 ")", 200},
      {R"("max_tokens":5.0)", 200},    {R"("max_tokens":5.5)", 400},
      {R"("max_tokens":null)", 200},   {R"("max_tokens":[])", 400},
      {R"("temperature":true)", 200},  {R"("temperature":"0.5")", 200},
      {R"("temperature":"hot")", 400}, {R"("n":true)", 200},
      {R"("seed":true)", 200},         {R"("echo":1)", 200},
      {R"("echo":0.0)", 200},          {R"("echo":"yes")", 200},
      {R"("echo":"OFF")", 200},        {R"("echo":2)", 400},
      {R"("echo":"maybe")", 400},      {R"("stream":"on")", 200},
      {R"("user":5)", 400},            {R"("stop":5)", 400},
  };
  for (const auto& [field, expected] : completions) {
    EXPECT_EQ(status(false, fmt::format(R"({{"prompt":"a",{}}})", field)), expected) << field;
  }
  const std::pair<const char*, int> chats[] = {
      {R"("messages":[{"role":null,"content":"a"}])", 400},
      {R"("messages":[{"role":5,"content":"a"}])", 400},
      {R"("messages":[{"role":"user","content":"a"}],"tool_choice":"auto")", 400},
      {R"("messages":[{"role":"user","content":"a"}],"tool_choice":"none")", 200},
      {R"("messages":[{"role":"user","content":"a"}],"tool_choice":null)", 200},
      {R"("messages":[{"role":"user","content":"a"}],"tools":null)", 200},
  };
  for (const auto& [fields, expected] : chats) {
    EXPECT_EQ(status(true, fmt::format("{{{}}}", fields)), expected) << fields;
  }
  const std::pair<const char*, int> tools[] = {
      {R"({"type":"function","function":{"name":"f"}})", 200},
      {R"({"function":{"name":"f","parameters":null,"description":null}})", 200},
      {R"({"type":"function","function":{"name":"f","parameters":{}}})", 200},
      {R"({"type":"function","function":{"name":"f","parameters":"x"}})", 400},
      {R"({"type":"function","function":{"name":"f","parameters":[]}})", 400},
      {R"({"type":"function","function":{"name":"f","description":5}})", 400},
      {R"({"type":"retrieval","function":{"name":"f"}})", 400},
      {R"({"type":"function","function":{"name":5}})", 400},
      {R"({"type":"function"})", 400},
      {R"("f")", 400},
  };
  options_.auto_tool_choice = true;
  for (const auto& [tool, expected] : tools) {
    EXPECT_EQ(status(true, fmt::format(
                         R"({{"messages":[{{"role":"user","content":"a"}}],"tools":[{}]}})", tool)),
              expected)
        << tool;
  }
}

// An answer that goes on with the last message has its role.
TEST_F(Requests, TheAnswersRole) {
  EXPECT_EQ(Chat("{" MESSAGES "}").plan.prompts[0].role, "assistant");
  EXPECT_EQ(Chat("{" MESSAGES R"(,"add_generation_prompt":false})").plan.prompts[0].role, "user");
  EXPECT_EQ(Chat(R"({"messages":[{"role":"critic","content":"a"}],"continue_final_message":true})")
                .plan.prompts[0].role, "critic");
}

// Every list and string has its bound, and what is just within it is taken.
TEST_F(Requests, ListsAndStringsAreBounded) {
  const auto repeated = [](std::string_view item, size_t count, std::string_view separator = ",") {
    std::string text;
    for (size_t i = 0; i < count; ++i) {
      if (i > 0) text += separator;
      text += item;
    }
    return text;
  };
  const auto list = [&](std::string_view item, size_t count) {
    return '[' + repeated(item, count) + ']';
  };
  const auto quoted = [](size_t size) { return '"' + std::string(size, 'x') + '"'; };
  const auto object = [](size_t size, int first) {
    std::string text = "{";
    for (size_t i = 0; i < size; ++i) {
      text += fmt::format("{}\"{}\":1", i > 0 ? "," : "", first + static_cast<int>(i % 200));
    }
    return text + "}";
  };
  const auto distinct = [](size_t size) {
    std::string text = "{";
    for (size_t i = 0; i < size; ++i) text += fmt::format("{}\"k{}\":1", i > 0 ? "," : "", i);
    return text + "}";
  };
  struct Bound {
    bool chat;
    std::string field, within, beyond;
  };
  const Bound bounds[] = {
      {false, "stop", quoted(4096), quoted(4097)},
      {false, "stop", '[' + quoted(4096) + ']', '[' + quoted(4097) + ']'},
      {false, "stop", list(R"("x")", 64), list(R"("x")", 65)},
      {false, "stop_token_ids", list("1", 1024), list("1", 1025)},
      {false, "bad_words", list(R"("x")", 1024), list(R"("x")", 1025)},
      {false, "bad_words", list(quoted(1024), 32), list(quoted(1024), 33)},
      {false, "allowed_token_ids", list("1", 262'144), list("1", 262'145)},
      {false, "logit_bias", object(200, 1), distinct(16'385)},
      {false, "cache_salt", quoted(128), quoted(129)},
      {true, "tools", "", list(R"({"function":{"name":"f"}})", 4097)},
      {true, "documents", list("{}", 4096), list("{}", 4097)},
      {true, "chat_template_kwargs", distinct(256), distinct(257)},
  };
  for (const Bound& bound : bounds) {
    for (const bool is_within : {true, false}) {
      const std::string& value = is_within ? bound.within : bound.beyond;
      if (value.empty()) continue;
      const std::string body = fmt::format(R"({{"prompt":"a",{},"{}":{}}})", MESSAGES, bound.field, value);
      const auto result = bound.chat ? PrepareChat(body, "", model_, options_)
                                     : PrepareCompletion(body, "", model_, options_);
      EXPECT_EQ(result.has_value(), is_within)
          << bound.field << (result ? "" : ": " + result.error().message);
      if (result) continue;
      EXPECT_EQ(result.error().http_status, 400) << bound.field;
      EXPECT_LT(result.error().message.size(), 1000u) << bound.field;
      EXPECT_NE(result.error().message.find(bound.field), std::string::npos)
          << result.error().message;
    }
  }
  const auto chat = [&](const std::string& messages) {
    return PrepareChat(R"({"messages":)" + messages + "}", "", model_, options_);
  };
  for (const std::string& messages :
       {list(R"({"role":"user"})", 32'769),
        R"([{"role":"user","content":)" + list(R"("x")", 16'385) + "}]",
        R"([{"role":)" + quoted(257) + R"(,"content":"x"}])",
        R"([{"role":"user","content":"x","name":)" + quoted(257) + "}]",
        R"([{"role":"assistant","tool_calls":)" + list(R"({"function":{}})", 4097) + "}]"}) {
    const auto result = chat(messages);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().http_status, 400);
    EXPECT_NE(result.error().message.find("messages"), std::string::npos) << result.error().message;
    EXPECT_LT(result.error().message.size(), 1000u);
  }
  // Arguments are JSON within JSON: their values count together.
  std::string calls;
  for (int i = 0; i < 3; ++i) {
    calls += fmt::format(R"({}{{"function":{{"name":"f","arguments":"[{}]"}}}})", i > 0 ? "," : "",
                         repeated("0", 400'000));
  }
  const auto result = chat(R"([{"role":"assistant","tool_calls":[)" + calls + "]}]");
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("more than"), std::string::npos) << result.error().message;
}

// However many faults a body has, the first 20 are told.
TEST_F(Requests, FaultsAreCountedUpToTwenty) {
  std::string faults = "0";
  for (int i = 1; i < 4000; ++i) faults += ",0";
  const std::string bodies[] = {
      fmt::format(R"({{{},"tools":[{}]}})", MESSAGES, faults),
      fmt::format(R"({{"messages":[{}]}})", faults),
  };
  for (const std::string& body : bodies) {
    const auto result = PrepareChat(body, "", model_, options_);
    ASSERT_FALSE(result);
    const std::string& message = result.error().message;
    EXPECT_TRUE(message.starts_with("At least 20 validation errors:\n")) << message;
    EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 20);
  }
}

// What a fault shows of the value is short, however large and however shaped the value is.
TEST_F(Requests, ShownValuesAreShort) {
  std::string wide = "[0", deep = "0";
  for (int i = 0; i < 100'000; ++i) wide += ",0";
  for (int i = 0; i < 50; ++i) deep = "[" + deep + ",\"" + std::string(10'000, 'x') + "\"]";
  for (const std::string& value : {wide + "]", deep, '"' + std::string(1 << 20, 'x') + '"'}) {
    for (const char* field : {"top_p", "n", "stream", "logit_bias", "prompt", "model", "suffix",
                              "truncation_side", "response_format"}) {
      const auto result = PrepareCompletion(
          fmt::format(R"({{"prompt":{{}},"{}":{}}})", field, value), "", model_, options_);
      ASSERT_FALSE(result);
      EXPECT_LT(result.error().message.size(), 2000u) << field;
    }
  }
}

TEST_F(Requests, BrokenBodies) {
  for (const char* body : {"", "{", "[]", "5", "null", R"({"messages":5})", R"({"messages":[5]})",
                           R"({"messages":[{"role":5}]})", R"({"prompt":{}})", R"({"prompt":5})"}) {
    const auto chat = PrepareChat(body, "", model_, options_);
    ASSERT_FALSE(chat) << body;
    EXPECT_EQ(chat.error().http_status, 400) << body;
    const auto completion = PrepareCompletion(body, "", model_, options_);
    ASSERT_FALSE(completion) << body;
    EXPECT_EQ(completion.error().http_status, 400) << body;
  }
}

TEST_F(Requests, EveryIntegerFieldSurvivesEveryValue) {
  for (const char* field : {"n", "max_tokens", "min_tokens", "seed", "top_k", "logprobs",
                            "prompt_logprobs", "truncate_prompt_tokens", "priority",
                            "stream_interval", "top_logprobs", "temperature", "top_p"}) {
    for (const char* value : {"-1", "0", "2147483648", "9223372036854775807",
                              "18446744073709551616", "1e308", "\"NaN\"", "\"5\"", "true", "[]",
                              "{}", "null"}) {
      const std::string body = fmt::format(R"({{"prompt":"a",{},"{}":{}}})", MESSAGES, field, value);
      for (const bool chat : {false, true}) {
        const auto result = chat ? PrepareChat(body, "", model_, options_)
                                 : PrepareCompletion(body, "", model_, options_);
        if (!result) {
          EXPECT_EQ(result.error().http_status, 400) << body;
        }
      }
    }
  }
}

TEST_F(Requests, ContextOverflow) {
  const auto at = [&](size_t length) {
    return PrepareCompletion(fmt::format(R"({{"prompt":"{}"}})", std::string(length, 'a')), "",
                             model_, options_);
  };
  EXPECT_TRUE(at(127));
  EXPECT_NE(at(128).error().message.find("maximum context length is 128 tokens"),
            std::string::npos);
  EXPECT_EQ(at(200).error().message,
            "This model's maximum context length is 128 tokens. However, your prompt contains 200 "
            "input tokens, which exceeds this limit even without any output tokens. Please reduce "
            "the length of the input prompt. (parameter=input_tokens, value=200)");
  EXPECT_NE(at(1 << 20).error().message.find("at least"), std::string::npos);
}

// Texts that cannot fit are refused by their length, wherever they come; a truncated one is cut first.
TEST_F(Requests, TextsAreBoundedBeforeTheyAreTokenized) {
  // The longest token, <|im_start|>, has 12 bytes: 128 tokens stand for at most 1536.
  ASSERT_EQ(model_.tokenizer->longest_token_bytes(), 12);
  const std::string long_text(1537, 'a');
  const std::string overflow =
      "This model's maximum context length is 128 tokens. However, your prompt contains at least 129 "
      "input tokens, which exceeds this limit even without any output tokens. Please reduce the "
      "length of the input prompt. (parameter=input_tokens, value=129)";
  const std::string prompt = fmt::format(R"({{"prompt":"{}"}})", long_text);
  EXPECT_EQ(PrepareCompletion(prompt, "", model_, options_).error().message, overflow);
  EXPECT_EQ(TokenizeBody(prompt, model_, options_).error().message, overflow);
  const std::string chat =
      fmt::format(R"({{"messages":[{{"role":"user","content":"{}"}}]}})", std::string(1600, 'a'));
  EXPECT_NE(PrepareChat(chat, "", model_, options_).error().message.find("at least 138 input"),
            std::string::npos);
  EXPECT_NE(TokenizeBody(chat, model_, options_).error().message.find("at least 138 input"),
            std::string::npos);
  EXPECT_TRUE(TokenizeBody(fmt::format(R"({{"prompt":"{}"}})", std::string(1536, 'a')), model_,
                           options_));
  std::string ids = "1";
  for (int i = 1; i < 129; ++i) ids += ",1";
  EXPECT_NE(DetokenizeBody(fmt::format(R"({{"tokens":[{}]}})", ids), model_)
                .error().message.find("129 input tokens"), std::string::npos);
  for (const char* side : {"left", "right"}) {
    const auto cut = Completion(fmt::format(
        R"({{"prompt":"b{}c","truncate_prompt_tokens":3,"truncation_side":"{}","echo":true}})",
        std::string(5000, 'a'), side));
    EXPECT_EQ(Prompt(cut), std::string(side) == "left" ? "aac" : "baa");
    EXPECT_EQ(cut.plan.prompts[0].echo_text, Prompt(cut));
  }
}

// An answer that would repeat its prompts without end is refused before it is begun.
TEST_F(Requests, RepeatedPromptsAreBounded) {
  model_.max_model_len = 100'000;
  const std::string text(90'000, 'a');
  EXPECT_TRUE(Completion(fmt::format(R"({{"prompt":"{}","echo":true,"n":700}})", text)).plan.n);
  for (const char* fields : {R"("echo":true,"n":800)", R"("return_token_ids":true,"n":120)",
                             R"("echo":true,"logprobs":5,"n":10)"}) {
    const auto refused = PrepareCompletion(
        fmt::format(R"({{"prompt":"{}",{}}})", text, fields), "", model_, options_);
    ASSERT_FALSE(refused) << fields;
    EXPECT_EQ(refused.error().http_status, 400);
    EXPECT_TRUE(refused.error().message.starts_with("The answer would repeat its prompts"));
  }
}

TEST_F(Requests, MaxTokens) {
  EXPECT_EQ(Completion(R"({"prompt":"a"})").requests[0].params->max_tokens, 16);
  EXPECT_EQ(Completion(R"({"prompt":"a","max_tokens":null})").requests[0].params->max_tokens, 16);
  // As much as there is room for: the engine cuts it.
  EXPECT_EQ(Chat("{" MESSAGES R"(,"max_tokens":null})").requests[0].params->max_tokens, 128);
  EXPECT_EQ(Chat("{" MESSAGES R"(,"max_tokens":50,"max_completion_tokens":5})")
                .requests[0].params->max_tokens, 5);
  options_.sampling_defaults.max_new_tokens = 3;
  EXPECT_EQ(Chat("{" MESSAGES "}").requests[0].params->max_tokens, 3);
}

TEST_F(Requests, MinTokensMustFitBesideEachPrompt) {
  EXPECT_EQ(Completion(R"({"prompt":[[97,97],[97]],"min_tokens":126,"max_tokens":126})")
                .requests.size(), 2u);
  ExpectErrors(false, {
    {R"({"prompt":[[97],[97,97,97]],"min_tokens":126,"max_tokens":126})", 400,
     "min_tokens must be less than or equal to max_tokens=125, got 126. (parameter=min_tokens,"
     " value=126)", "min_tokens"},
  });
}

TEST_F(Requests, PromptsShareOneSetOfParameters) {
  const auto request = Completion(R"({"prompt":["a","bb","ccc"],"n":4,"stop":"x","bad_words":["w"]})");
  ASSERT_EQ(request.requests.size(), 3u);
  EXPECT_EQ(request.requests[0].params, request.requests[1].params);
  EXPECT_EQ(request.requests[0].params, request.requests[2].params);
  EXPECT_EQ(request.requests[0].params->bad_words_token_ids.size(), 1u);
}

TEST_F(Requests, AnswersNameTheFirstServedModel) {
  EXPECT_EQ(Completion(R"({"prompt":"a","model":"alias"})").plan.model, "test");
  EXPECT_EQ(Chat("{" MESSAGES R"(,"model":"alias"})").plan.model, "test");
}

TEST_F(Requests, SamplingDefaultsAreUnderTheRequest) {
  options_.sampling_defaults.temperature = 0.6f;
  options_.sampling_defaults.top_k = 20;
  const auto request = Completion(R"({"prompt":"a","top_k":-1,"seed":-1})");
  EXPECT_FLOAT_EQ(request.requests[0].params->temperature, 0.6f);
  EXPECT_EQ(request.requests[0].params->top_k, -1);
  EXPECT_FALSE(request.requests[0].params->seed.has_value());
}

TEST_F(Requests, BatchesAndTruncation) {
  const auto batch = Completion(R"({"prompt":["ab",[99]],"truncate_prompt_tokens":1,"n":2,"echo":true,"x_unknown":1})");
  const auto ids = Completion(R"({"prompt":[[97,98],[99]],"truncate_prompt_tokens":1})");
  EXPECT_EQ(Prompt(ids, 0), "b");
  EXPECT_EQ(Prompt(ids, 1), "c");
  EXPECT_EQ(Prompt(Completion(
                R"({"prompt":"abc","truncate_prompt_tokens":2,"truncation_side":"right"})")), "ab");
  EXPECT_EQ(batch.plan.prompts.size(), 2u);
}

TEST_F(Requests, MessagesBecomeTemplateInput) {
  EXPECT_EQ(Prompt(Chat(R"({"messages":[{"role":"developer","content":"s"},{"role":"user","content":[
      {"type":"text","text":"a"},{"type":"text","text":"b"}]}]})")),
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n"
            "<|im_start|>assistant\n");
  // null, "" and no content are one.
  std::string first;
  for (const char* content : {R"("content":null,)", R"("content":"",)", ""}) {
    const std::string body = fmt::format(
        R"({{"messages":[{{"role":"assistant",{}"tool_calls":[{{"function":{{"name":"f","arguments":"{{}}"}}}}]}}]}})",
        content);
    if (first.empty()) first = Prompt(Chat(body));
    EXPECT_EQ(Prompt(Chat(body)), first);
  }
  EXPECT_EQ(Prompt(Chat(R"({"messages":[{"role":"user","content":"q"},
      {"role":"assistant","content":"The ans"}],"continue_final_message":true})")),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nThe ans");
}

// The prompt ends where the final content does, whatever the template does with blanks. Expected: what
// transformers' apply_chat_template gives.
TEST_F(Requests, TheFinalMessageGoesOn) {
  options_.trust_request_chat_template = true;
  const char* plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}";
  const char* trims = "{% for m in messages %}<{{ m.role }}>{{ m.content|trim }}</>{% endfor %}";
  const std::tuple<const char*, std::string, std::string> cases[] = {
      {plain, "ab", "ab"},      {plain, "ab ", "ab "},  {plain, "", ""},         {plain, " ", " "},
      {plain, " ab", " ab"},    {trims, "ab \n", "ab"}, {trims, "", ""},         {trims, " ", ""},
      {trims, "ab\u3000", "ab"}, {trims, "ab\u00a0", "ab"}, {trims, "\u00a0ab", "ab"},
      {plain, "ab\u3000", "ab\u3000"}, {plain, "q", "q"},
  };
  for (const auto& [source, content, end] : cases) {
    Json body{Json::Object{}};
    body.Set("messages", *ParseJson(R"([{"role":"user","content":"q"},{"role":"assistant"}])"));
    (*body.Find("messages")->array())[1].Set("content", Json(content));
    body.Set("continue_final_message", Json(true));
    body.Set("chat_template", Json(source));
    EXPECT_EQ(Prompt(Chat(body.Dump())), "<user>q</><assistant>" + end) << source << content;
  }
  // A template that leaves the message out.
  const auto refused = PrepareChat(
      R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],)"
      R"("continue_final_message":true,"chat_template":"{{ messages[0].content }}"})",
      "", model_, options_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().http_status, 400);
}

TEST_F(Requests, ToolsAndDocumentsAreAlwaysDefined) {
  options_.trust_request_chat_template = true;
  const std::string body =
      R"({"messages":[{"role":"user","content":"q"}],"chat_template":"{{ tools is defined }} )"
      R"({{ documents is defined }} {{ tools is none }} {{ documents }} {{ other is defined }}")";
  EXPECT_EQ(Prompt(Chat(body + "}")), "True True True None False");
  EXPECT_EQ(Prompt(Chat(body + R"(,"documents":[{"a":1}]})")),
            "True True True [{'a': 1}] False");
}

// Parts that are left out leave no line break.
TEST_F(Requests, PartsAreJoinedByLines) {
  const std::pair<const char*, const char*> cases[] = {
      {R"([{"type":"thinking","thinking":"x"},{"type":"text","text":"y"}])", "y"},
      {R"([{"type":"text","text":"y"},{"type":"thinking","thinking":"x"}])", "y"},
      {R"([{"type":"text","text":"a"},{"type":"thinking","thinking":"x"},{"type":"text","text":"b"}])",
       "a\nb"},
      {R"([{"type":"text","text":""},{"type":"text","text":"y"}])", "\ny"},
      {R"(["a",{"type":"refusal","refusal":"r"}])", "a\nr"},
      {R"([{"type":"thinking","thinking":"x"}])", ""},
  };
  for (const auto& [content, text] : cases) {
    EXPECT_EQ(Prompt(Chat(fmt::format(
                  R"({{"messages":[{{"role":"assistant","content":{}}}],"add_generation_prompt":false}})",
                  content))),
              fmt::format("<|im_start|>assistant\n{}<|im_end|>\n", text));
  }
}

TEST_F(Requests, IdsArePlain) {
  EXPECT_EQ(PrepareCompletion(R"({"prompt":"a","request_id":"x"})", "hdr", model_, options_)->plan.id,
            "cmpl-hdr");
  EXPECT_EQ(Completion(R"({"prompt":"a","request_id":"mine"})").plan.id, "cmpl-mine");
  EXPECT_EQ(Completion(R"({"prompt":"a","request_id":"a\r\nb"})").plan.id.size(), 5u + 32u);
  EXPECT_FALSE(IsPlainId(std::string(129, 'a')));
}

TEST_F(Requests, TokenizeAndBack) {
  EXPECT_EQ(*TokenizeBody(R"({"prompt":"ab","return_token_strs":true})", model_, options_),
            R"({"count":2,"max_model_len":128,"tokens":[97,98],"token_strs":["a","b"]})");
  EXPECT_EQ(*DetokenizeBody(R"({"tokens":[97,98]})", model_), R"({"prompt":"ab"})");
  EXPECT_EQ(DetokenizeBody(R"({"tokens":[-1]})", model_).error().http_status, 400);
  EXPECT_EQ(DetokenizeBody(R"({})", model_).error().http_status, 400);
}

}  // namespace
}  // namespace tiercel::api
