// libtiercel's functions on a tiny random model. tests/cli/test_embed.py compares tokens with a
// server's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <tiercel.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "capi/sized_struct.h"

namespace tiercel::capi {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr const char* kModel = TIERCEL_TEST_DATA "/tiny-qwen3";
constexpr const char* kGreedy = R"({"max_tokens": 24, "temperature": 0, "ignore_eos": true})";
constexpr const char* kEndless = R"({"max_tokens": 400, "ignore_eos": true, "n": 8})";

tiercel_status CreateEngine(const char* model, std::vector<const char*> words,
                            tiercel_engine** engine) {
  tiercel_engine_options options{};
  options.struct_size = sizeof(options);
  options.model = model;
  options.arguments = words.data();
  options.num_arguments = words.size();
  options.program = TIERCEL_TEMPLATE_WORKER;
  return tiercel_engine_create(&options, engine);
}

tiercel_request_options Completion(const char* body) {
  tiercel_request_options options{};
  options.struct_size = sizeof(options);
  options.body = body;
  options.prompt = "Hello, my name is";
  return options;
}

struct Answer {
  std::string text, finish_reason;
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  int pieces = 0;

  void Add(tiercel_request* request, size_t index) {
    tiercel_choice choice{};
    choice.struct_size = sizeof(choice);
    ASSERT_EQ(tiercel_request_choice(request, index, &choice), TIERCEL_OK) << tiercel_last_error();
    text.append(choice.text, choice.text_size);
    tokens.insert(tokens.end(), choice.token_ids, choice.token_ids + choice.num_token_ids);
    if (choice.logprobs != nullptr)
      logprobs.insert(logprobs.end(), choice.logprobs, choice.logprobs + choice.num_token_ids);
    finish_reason = choice.finish_reason != nullptr ? choice.finish_reason : "";
    ++pieces;
  }
};

class CApi : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_EQ(CreateEngine(kModel,
                           {"--load-format", "dummy", "--max-model-len", "512",
                            "--kv-cache-memory-bytes", "64M", "--log-level", "error"},
                           &engine_),
              TIERCEL_OK)
        << tiercel_last_error();
  }
  static void TearDownTestSuite() { tiercel_engine_destroy(engine_); }

  void SetUp() override { output_.struct_size = sizeof(output_); }

  tiercel_request* Begin(const tiercel_request_options& options) {
    tiercel_request* request = nullptr;
    EXPECT_EQ(tiercel_request_create(engine_, &options, &request), TIERCEL_OK)
        << tiercel_last_error();
    return request;
  }
  Answer Generate(const tiercel_request_options& options) {
    Answer answer;
    tiercel_request* request = nullptr;
    EXPECT_EQ(tiercel_generate(engine_, &options, &request, &output_), TIERCEL_OK)
        << tiercel_last_error();
    EXPECT_EQ(output_.done, 1);
    if (request != nullptr) answer.Add(request, 0);
    tiercel_request_destroy(request);
    return answer;
  }

  static inline tiercel_engine* engine_ = nullptr;
  tiercel_output output_{};
};

TEST_F(CApi, PiecesAddUpToTheWhole) {
  const Answer whole = Generate(Completion(kGreedy));
  EXPECT_EQ(whole.tokens.size(), 24);
  EXPECT_EQ(whole.finish_reason, "length");

  Answer pieces;
  tiercel_request* request = Begin(Completion(kGreedy));
  const auto add = [](void* user, tiercel_request* of, const tiercel_output* output) {
    EXPECT_EQ(output->num_choices, 1);
    static_cast<Answer*>(user)->Add(of, 0);
    return 0;
  };
  EXPECT_EQ(tiercel_request_stream(request, add, &pieces), TIERCEL_OK) << tiercel_last_error();
  tiercel_request_destroy(request);
  EXPECT_THAT(pieces.tokens, ElementsAreArray(whole.tokens));
  EXPECT_EQ(pieces.text, whole.text);
  EXPECT_EQ(pieces.finish_reason, "length");
}

TEST_F(CApi, TokensOfAPromptStandForItsText) {
  const Answer of_text = Generate(Completion(kGreedy));
  tiercel_request* request = Begin(Completion(kGreedy));
  ASSERT_EQ(tiercel_request_wait(request, &output_), TIERCEL_OK);
  const std::vector<int32_t> prompt(output_.prompt_token_ids,
                                    output_.prompt_token_ids + output_.num_prompt_token_ids);
  tiercel_request_destroy(request);

  tiercel_request_options options = Completion(kGreedy);
  options.prompt = nullptr;
  options.prompt_token_ids = prompt.data();
  options.num_prompt_token_ids = prompt.size();
  EXPECT_THAT(Generate(options).tokens, ElementsAreArray(of_text.tokens));
}

TEST_F(CApi, ChoicesAndLogProbabilities) {
  tiercel_request* request = Begin(
      Completion(R"({"max_tokens": 5, "n": 2, "seed": 3, "ignore_eos": true, "logprobs": 1})"));
  ASSERT_EQ(tiercel_request_wait(request, &output_), TIERCEL_OK) << tiercel_last_error();
  EXPECT_EQ(output_.num_choices, 2);
  for (size_t i = 0; i < 2; ++i) {
    Answer answer;
    answer.Add(request, i);
    EXPECT_EQ(answer.logprobs.size(), 5);
    for (const float logprob : answer.logprobs) EXPECT_LT(logprob, 0);
  }
  tiercel_choice choice{};
  choice.struct_size = sizeof(choice);
  EXPECT_EQ(tiercel_request_choice(request, 2, &choice), TIERCEL_INVALID_ARGUMENT);
  EXPECT_STREQ(tiercel_last_error(), "choice: found 2, expected less than 2");
  tiercel_request_destroy(request);
}

TEST_F(CApi, AChatTakesTheModelsTemplate) {
  tiercel_request_options options =
      Completion(R"({"messages": [{"role": "user", "content": "x"}], "max_tokens": 3})");
  options.endpoint = "/v1/chat/completions";
  options.prompt = nullptr;
  EXPECT_FALSE(Generate(options).tokens.empty());
  EXPECT_GT(output_.num_prompt_token_ids, 3);  // with what the template puts around it
}

TEST_F(CApi, AFileTellsOfNews) {
  tiercel_request* request = Begin(Completion(kGreedy));
  pollfd file{.fd = tiercel_request_fd(request), .events = POLLIN, .revents = 0};
  ASSERT_GE(file.fd, 0);
  Answer answer;
  do {
    ASSERT_EQ(::poll(&file, 1, 60'000), 1);
    ASSERT_EQ(tiercel_request_poll(request, 0, &output_), TIERCEL_OK) << tiercel_last_error();
    answer.Add(request, 0);
  } while (output_.done == 0);
  EXPECT_EQ(answer.tokens.size(), 24);
  EXPECT_EQ(tiercel_request_poll(request, -1, &output_),
            TIERCEL_OK);  // at once: there is nothing to wait for
  EXPECT_EQ(output_.done, 1);
  tiercel_request_destroy(request);
}

TEST_F(CApi, AnotherThreadEndsAPollThatWaits) {
  tiercel_request* request = Begin(Completion(kEndless));
  std::thread other([&] { tiercel_request_cancel(request); });
  tiercel_status status = TIERCEL_OK;
  while (status == TIERCEL_OK && output_.done == 0)
    status = tiercel_request_poll(request, -1, &output_);
  other.join();
  EXPECT_EQ(status, TIERCEL_CANCELLED);
  EXPECT_STREQ(tiercel_last_error(), "the request has been cancelled");
  EXPECT_EQ(tiercel_request_poll(request, -1, &output_), TIERCEL_CANCELLED);
  EXPECT_EQ(tiercel_request_wait(request, &output_), TIERCEL_CANCELLED);
  tiercel_request_destroy(request);
}

TEST_F(CApi, ACallbackEndsIt) {
  tiercel_request* request = Begin(Completion(kEndless));
  const auto enough = [](void*, tiercel_request*, const tiercel_output*) { return 1; };
  EXPECT_EQ(tiercel_request_stream(request, enough, nullptr), TIERCEL_CANCELLED);
  tiercel_request_destroy(request);
}

TEST_F(CApi, RequestsOfSeveralThreads) {
  const Answer alone = Generate(Completion(kGreedy));
  std::vector<Answer> answers(4);
  std::vector<std::thread> threads;
  for (Answer& answer : answers) {
    threads.emplace_back([&] {
      const tiercel_request_options options = Completion(kGreedy);
      tiercel_output output{};
      output.struct_size = sizeof(output);
      tiercel_request* request = nullptr;
      ASSERT_EQ(tiercel_generate(engine_, &options, &request, &output), TIERCEL_OK)
          << tiercel_last_error();
      answer.Add(request, 0);
      tiercel_request_destroy(request);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Answer& answer : answers) EXPECT_THAT(answer.tokens, ElementsAreArray(alone.tokens));
}

TEST_F(CApi, FaultsAreNamed) {
  const auto fault_of = [&](tiercel_request_options options) {
    tiercel_request* request = nullptr;
    EXPECT_EQ(tiercel_request_create(engine_, &options, &request), TIERCEL_INVALID_ARGUMENT);
    EXPECT_EQ(request, nullptr);
    return std::string(tiercel_last_error());
  };
  EXPECT_THAT(fault_of(Completion(R"({"temperature": -1})")), HasSubstr("temperature"));
  EXPECT_THAT(fault_of(Completion("{")), HasSubstr("byte"));
  EXPECT_EQ(fault_of(Completion("[]")), "tiercel_request_options.body: expected a JSON object");
  tiercel_request_options options = Completion(kGreedy);
  options.endpoint = "/v2";
  EXPECT_EQ(fault_of(options), "no endpoint /v2");
  options = Completion(kGreedy);
  const int32_t token = 1;
  options.prompt_token_ids = &token;
  EXPECT_THAT(fault_of(options), HasSubstr("found prompt and prompt_token_ids"));
}

TEST(CApiEngine, OfAModelThatPools) {
  tiercel_engine* engine = nullptr;
  ASSERT_EQ(CreateEngine(kModel,
                         {"--load-format", "dummy", "--runner", "pooling", "--max-model-len", "512",
                          "--kv-cache-memory-bytes", "64M", "--log-level", "error"},
                         &engine),
            TIERCEL_OK)
      << tiercel_last_error();
  tiercel_request_options options = Completion(R"({"input": "Hello"})");
  options.endpoint = "/v1/embeddings";
  options.prompt = nullptr;
  tiercel_output output{};
  output.struct_size = sizeof(output);
  tiercel_request* request = nullptr;
  ASSERT_EQ(tiercel_generate(engine, &options, &request, &output), TIERCEL_OK)
      << tiercel_last_error();
  tiercel_engine_destroy(engine);  // the request keeps it
  EXPECT_EQ(output.num_choices, 0);
  EXPECT_THAT(std::string(output.body, output.body_size), HasSubstr("\"embedding\":["));
  tiercel_request_destroy(request);
}

TEST(CApiEngine, FaultsAreNamed) {
  const auto fault_of = [](const char* model, std::vector<const char*> words) {
    tiercel_engine* engine = nullptr;
    EXPECT_EQ(CreateEngine(model, std::move(words), &engine), TIERCEL_INVALID_ARGUMENT);
    EXPECT_EQ(engine, nullptr);
    return std::string(tiercel_last_error());
  };
  EXPECT_EQ(fault_of(nullptr, {}), "tiercel_engine_options.model: found NULL");
  EXPECT_THAT(fault_of(kModel, {"--no-such-flag"}), HasSubstr("--no-such-flag"));
  EXPECT_THAT(fault_of(kModel, {nullptr}), HasSubstr("arguments[0]: found NULL"));
  EXPECT_THAT(fault_of("/nowhere", {}), HasSubstr("/nowhere"));
  EXPECT_THAT(fault_of(kModel, {"--load-format", "dummy", "--data-parallel-size", "2"}),
              HasSubstr("data_parallel_size"));
}

// A struct of an older header, and ones of a newer header.
struct Old {
  size_t struct_size;
  int first;
};
struct Known {
  size_t struct_size;
  int first, second;
  size_t third;
};
struct New {
  Known known;
  const void* fourth;
};

TEST(SizedStruct, OfAnOlderCaller) {
  const Old old = {sizeof(Old), 7};
  Known padded;  // what lies behind an older struct is not its own
  std::memset(&padded, 0xFF, sizeof(padded));
  std::memcpy(&padded, &old, sizeof(old));
  const auto read = ReadStruct(&padded, "it");
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(read->first, 7);
  EXPECT_EQ(read->third, 0);
  ASSERT_TRUE(WriteStruct(Known{0, 1, 2, 3}, &padded, "it").ok());
  EXPECT_EQ(padded.struct_size, sizeof(Old));
  EXPECT_EQ(padded.first, 1);
  EXPECT_EQ(padded.third, SIZE_MAX);
}

TEST(SizedStruct, OfANewerCaller) {
  New given{{sizeof(New), 7, 8, 9}, nullptr};
  const auto read = ReadStruct(&given.known, "it");
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(read->third, 9);
  given.fourth = &given;
  EXPECT_THAT(ReadStruct(&given.known, "it").error().message(), HasSubstr("a field beyond"));
  ASSERT_TRUE(WriteStruct(Known{0, 1, 2, 3}, &given.known, "it").ok());
  EXPECT_EQ(given.fourth, &given);
}

TEST(SizedStruct, WithoutASize) {
  Known given{};
  EXPECT_EQ(ReadStruct(&given, "it").error().message(),
            "it.struct_size: found 0, expected sizeof(it)");
  EXPECT_FALSE(WriteStruct(Known{}, &given, "it").ok());
  EXPECT_FALSE(ReadStruct<Known>(nullptr, "it"));
}

}  // namespace
}  // namespace tiercel::capi
