// The n-th allocation fails, for every n: whatever a request was doing, it gets 503 and nothing is
// lost or done twice. operator new is replaced for this program alone.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "api/errors.h"
#include "api/prepare.h"
#include "api/responder.h"
#include "api/test_support.h"
#include "api/text_bodies.h"

namespace {

// Allocations of this thread until one fails; negative: none does.
thread_local int64_t allocations_left = -1;

void* Allocate(size_t size) {
  if (allocations_left >= 0 && allocations_left-- == 0) throw std::bad_alloc();
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return Allocate(size); }
void* operator new[](size_t size) { return Allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace tiercel::api {
namespace {

// Fails the first allocation of `work`, then the second, … until it ends without a failure.
template <typename Work>
auto FailEveryAllocation(Work&& work) {
  for (int64_t n = 0;; ++n) {
    allocations_left = n;
    auto result = Guarded(work);
    const bool failed = allocations_left < 0;
    allocations_left = -1;
    if (!failed) {
      EXPECT_GT(n, 5);
      return result;
    }
    // An allocation that may fail without harm leaves a right answer.
    if (!result) {
      EXPECT_EQ(result.error().http_status, 503) << "allocation " << n;
    }
  }
}

class Allocations : public testing::Test {
 protected:
  ModelInfo model_ = TestModel();
  ApiOptions options_;
};

TEST_F(Allocations, OfChats) {
  const auto prepared = FailEveryAllocation([&] {
    return PrepareChat(
        R"({"messages":[{"role":"system","content":[{"type":"text","text":"a"},{"type":"text",
            "text":"a text that is too long to stand in a string's own bytes"}]},
            {"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\":[1,2]}"}}]},
            {"role":"user","content":"hi"}],"stop":["END","another stop string, a long one"],
            "logit_bias":{"5":1,"6":2},"bad_words":["bad"],"chat_template_kwargs":{"x":[1,2,3]}})",
        "", model_, options_);
  });
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_EQ(prepared->requests.size(), 1u);
}

TEST_F(Allocations, OfCompletions) {
  const auto prepared = FailEveryAllocation([&] {
    return PrepareCompletion(
        R"({"prompt":["a text that is too long for a string's own bytes",[1,2,3]],"echo":true,"n":2,
            "temperature":1,"stop_token_ids":[1,2],"allowed_token_ids":[3,4],"logprobs":2})",
        "", model_, options_);
  });
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_EQ(prepared->requests.size(), 2u);
}

TEST_F(Allocations, OfStructuredOutputs) {
  const auto prepared = FailEveryAllocation([&] {
    return PrepareCompletion(
        R"({"prompt":"a","structured_outputs":{"json":{"type":"object","properties":{"a":{"const":1}}}}})",
        "", model_, options_);
  });
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_NE(prepared->requests[0].params->constraint, nullptr);
}

TEST_F(Allocations, OfBodiesThatAreRefused) {
  for (const char* body : {R"({"messages":[0,1,2],"n":"x"})", R"({"messages":[)", R"({"messages":5})"}) {
    const auto refused = FailEveryAllocation([&] { return PrepareChat(body, "", model_, options_); });
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().http_status, 400);
  }
}

TEST_F(Allocations, OfTokenizing) {
  const auto tokens = FailEveryAllocation([&] {
    return TokenizeBody(R"({"prompt":"a text of some length, one two three","return_token_strs":true})",
                        model_, options_);
  });
  EXPECT_TRUE(tokens);
  const auto text = FailEveryAllocation([&] {
    return DetokenizeBody(R"({"tokens":[97,98,99,97,98,99,97,98,99,97,98,99,97,98,99,97,98,99]})",
                          model_);
  });
  EXPECT_TRUE(text);
}

TEST_F(Allocations, OfAnswers) {
  const auto answer = FailEveryAllocation([&]() -> Result<std::string> {
    API_ASSIGN_OR_RETURN(
        PreparedRequest prepared,
        PrepareCompletion(R"({"prompt":"abc","logprobs":1,"stop":"ZZ","echo":true})", "", model_,
                          options_));
    Responder responder(std::move(prepared.plan));
    ScriptedStream stream;
    stream.Put(Event(Bytes("an answer of some length ZZ"), engine::FinishReason::kLength));
    responder.Consume(0, &stream);
    return responder.TakeBody();
  });
  ASSERT_TRUE(answer);
  EXPECT_NE(answer->find("an answer of some length "), std::string::npos);
}

}  // namespace
}  // namespace tiercel::api
