#include "bench/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/answer_reader.h"
#include "bench/scripted_client.h"

namespace tiercel::bench {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kTiny = 1e-9;  // of rounding

std::string Chunk(const std::string& text) {
  return fmt::format("data: {{\"choices\":[{{\"index\":0,\"text\":\"{}\"}}]}}\n\n", text);
}
std::string Usage(int prompt, int completion) {
  return fmt::format(
      "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{}}}}}"
      "\n\ndata: [DONE]\n\n",
      prompt, completion);
}

Load LoadOf(std::vector<double> arrivals_s) {
  Load load;
  load.arrivals_s = std::move(arrivals_s);
  load.make = [](size_t index) {
    net::HttpRequestSpec spec;
    spec.url = fmt::format("http://server/{}", index);
    return spec;
  };
  load.prompt_tokens = [](size_t) { return int64_t{5}; };
  return load;
}

TEST(RunLoad, TimesEachChunkOfEachAnswer) {
  FakeClock clock;
  clock.Advance(1000);
  // The second answer comes in the gaps of the first; one piece holds two chunks, one chunk is cut
  // in two.
  ScriptedClient client(&clock, [](const net::HttpRequestSpec&, size_t index) {
    ScriptedAnswer answer;
    if (index == 0) {
      answer.pieces = {{0.5, Chunk("a")},
                       {0.75, Chunk("b") + Chunk("c")},
                       {1.5, Chunk("d")},
                       {1.75, Usage(7, 4)}};
      answer.end_s = 2;
    } else {
      const std::string chunk = Chunk("x");
      answer.pieces = {{0.25, ": ping\n\n"}, {0.5, chunk.substr(0, 20)}, {1.25, chunk.substr(20)}};
      answer.end_s = 1.25;
    }
    return answer;
  });
  const auto result = RunLoad(LoadOf({0, 0.125}), &client, clock);
  ASSERT_TRUE(result) << result.error();
  ASSERT_EQ(result->outcomes.size(), 2u);
  const Outcome& first = result->outcomes[0];
  EXPECT_TRUE(first.success);
  EXPECT_NEAR(first.start_s, 1000, kTiny);
  EXPECT_NEAR(first.ttft_s, 0.5, kTiny);
  EXPECT_THAT(first.itls_s,
              ElementsAre(DoubleNear(0.25, kTiny), DoubleNear(0, kTiny), DoubleNear(0.75, kTiny)));
  EXPECT_NEAR(first.latency_s, 1.5, kTiny) << "up to the last chunk, not to the end";
  EXPECT_EQ(first.text, "abcd");
  EXPECT_EQ(first.prompt_tokens, 7);
  EXPECT_EQ(first.output_tokens, 4);
  const Outcome& second = result->outcomes[1];
  EXPECT_TRUE(second.success);
  EXPECT_NEAR(second.start_s, 1000.125, kTiny);
  EXPECT_NEAR(second.ttft_s, 1.25, kTiny) << "when the chunk was whole";
  EXPECT_THAT(second.itls_s, IsEmpty());
  EXPECT_EQ(second.prompt_tokens, 5) << "the client's count, where the server has none";
  EXPECT_FALSE(second.output_tokens.has_value());
  EXPECT_NEAR(result->duration_s, 2, kTiny);
  EXPECT_EQ(result->unfinished, 0);
}

TEST(RunLoad, ConcurrencyMakesRequestsWait) {
  FakeClock clock;
  ScriptedClient client(&clock, [](const net::HttpRequestSpec&, size_t) {
    ScriptedAnswer answer;
    answer.pieces = {{1, Chunk("a")}};
    answer.end_s = 1;
    return answer;
  });
  Load load = LoadOf({0, 0, 0.5, 4});
  load.max_concurrency = 1;
  std::vector<int64_t> ended;
  load.on_end = [&](int64_t count) { ended.push_back(count); };
  const auto result = RunLoad(load, &client, clock);
  ASSERT_TRUE(result) << result.error();
  EXPECT_EQ(client.most_at_once(), 1);
  std::vector<double> waits;
  for (const Outcome& outcome : result->outcomes) waits.push_back(outcome.queue_s);
  EXPECT_THAT(waits, ElementsAre(DoubleNear(0, kTiny), DoubleNear(1, kTiny), DoubleNear(1.5, kTiny),
                                 DoubleNear(0, kTiny)));
  EXPECT_THAT(client.starts_s(), ElementsAre(DoubleNear(0, kTiny), DoubleNear(1, kTiny),
                                             DoubleNear(2, kTiny), DoubleNear(4, kTiny)));
  EXPECT_THAT(result->sent_s, ElementsAre(DoubleNear(0, kTiny), DoubleNear(1, kTiny),
                                          DoubleNear(2, kTiny), DoubleNear(4, kTiny)));
  EXPECT_THAT(ended, ElementsAre(1, 2, 3, 4));
}

TEST(RunLoad, FaultsSayWhatWasWrong) {
  FakeClock clock;
  net::HttpResponse refused;
  refused.status = 404;
  refused.body = R"({"error":{"message":"The model `x` does not exist.","code":404}})";
  net::HttpResponse odd;
  odd.status = 502;
  odd.body = "<html>\nbad gateway";
  const std::vector<ScriptedAnswer> answers = {
      {{}, 1, refused},
      {{}, 1, odd},
      {{{0.5, Chunk("a")}}, 1, Unexpected(Unavailable("http://server:80: the connection broke"))},
      {{{0.5, Chunk("a") + "data: {\"error\":{\"message\":\"out of memory\"}}\n\n"}}, 1},
      {{{0.5, "data: {nonsense\n\n"}}, 1},
      {{{0.5, Usage(1, 0)}}, 1},
  };
  ScriptedClient client(&clock, [&](const net::HttpRequestSpec&, size_t i) { return answers[i]; });
  const auto result = RunLoad(LoadOf(std::vector<double>(answers.size())), &client, clock);
  ASSERT_TRUE(result) << result.error();
  std::vector<std::string> errors;
  for (const Outcome& outcome : result->outcomes) {
    EXPECT_FALSE(outcome.success);
    errors.push_back(outcome.error);
  }
  EXPECT_THAT(errors,
              ElementsAre("HTTP 404: The model `x` does not exist.",
                          "HTTP 502: <html>\\nbad gateway", HasSubstr("the connection broke"),
                          "out of memory", HasSubstr("no JSON"), HasSubstr("without a token")));
}

TEST(RunLoad, StopKeepsWhatHasEnded) {
  FakeClock clock;
  ScriptedClient client(&clock, [](const net::HttpRequestSpec&, size_t index) {
    ScriptedAnswer answer;
    answer.pieces = {{1, Chunk("a")}};
    answer.end_s = index == 0 ? 1 : 1e9;
    return answer;
  });
  std::atomic<bool> stop = false;
  Load load = LoadOf({0, 0, 50});
  load.stop = &stop;
  load.on_end = [&](int64_t) { stop = true; };
  const auto result = RunLoad(load, &client, clock);
  ASSERT_TRUE(result) << result.error();
  ASSERT_EQ(result->outcomes.size(), 1u);
  EXPECT_TRUE(result->outcomes[0].success);
  EXPECT_EQ(result->unfinished, 2);
  EXPECT_NEAR(result->duration_s, 1, kTiny);
}

TEST(AnswerReader, ChunksOfAChat) {
  FakeClock clock;
  AnswerReader reader(&clock, 3);
  clock.Advance(1);
  EXPECT_TRUE(reader.Feed(
      "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n"));
  clock.Advance(0.5);
  // Some servers count in every chunk; the last count holds.
  EXPECT_TRUE(
      reader.Feed("data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],"
                  "\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n"));
  EXPECT_TRUE(
      reader.Feed("data: {\"choices\":[{\"delta\":{\"content\":null}}],\"usage\":null}\n\n"));
  net::HttpResponse response;
  response.status = 200;
  const Outcome outcome = std::move(reader).End(response);
  EXPECT_TRUE(outcome.success) << outcome.error;
  EXPECT_EQ(outcome.text, "hi");
  EXPECT_NEAR(outcome.ttft_s, 1, kTiny);
  EXPECT_THAT(outcome.itls_s, ElementsAre(DoubleNear(0.5, kTiny), DoubleNear(0, kTiny)));
  EXPECT_EQ(outcome.prompt_tokens, 9);
  EXPECT_EQ(outcome.output_tokens, 1);
}

TEST(AnswerReader, AnAnswerWithoutAnEndIsLeft) {
  FakeClock clock;
  AnswerReader reader(&clock, 3);
  const std::string piece = "data: " + std::string(1 << 20, 'a');
  int fed = 0;
  while (fed < 1000 && reader.Feed(piece)) ++fed;
  EXPECT_LT(fed, 32);
  const Outcome outcome =
      std::move(reader).End(Unexpected(Status(StatusCode::kCancelled, "stopped")));
  EXPECT_FALSE(outcome.success);
  EXPECT_THAT(outcome.error, HasSubstr("without an end"));
}

}  // namespace
}  // namespace tiercel::bench
