#include "bench/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "bench/client_request.h"

namespace tiercel::bench {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::Not;

LoadResult OneAnswer() {
  Outcome outcome;
  outcome.success = true;
  outcome.ttft_s = 0.1;
  outcome.latency_s = 0.5;
  outcome.itls_s = {0.1, 0.3};
  outcome.prompt_tokens = 7;
  outcome.output_tokens = 3;
  outcome.text = "hi";
  LoadResult load;
  load.outcomes = {outcome};
  load.duration_s = 2;
  load.sent_s = {0};
  return load;
}

ServeRun PlainRun() {
  ServeRun run;
  run.date = "20251125-023400";
  run.model_id = "vllm-ascend/Qwen3-32B-W8A8";
  run.tokenizer_id = run.model_id;
  run.num_prompts = 1;
  return run;
}

std::vector<std::string> KeysOf(const api::Json& json) {
  std::vector<std::string> keys;
  for (const api::Json::Member& member : *json.object()) keys.push_back(member.key);
  return keys;
}

// The keys that vLLM's documentation and files of results have.
const std::vector<std::string> kReportKeys = {"date",
                                        "endpoint_type",
                                        "backend",
                                        "label",
                                        "model_id",
                                        "tokenizer_id",
                                        "num_prompts",
                                        "request_rate",
                                        "burstiness",
                                        "max_concurrency",
                                        "duration",
                                        "completed",
                                        "failed",
                                        "total_input_tokens",
                                        "total_output_tokens",
                                        "request_throughput",
                                        "request_goodput",
                                        "output_throughput",
                                        "total_token_throughput",
                                        "latencies",
                                        "queue_times",
                                        "max_output_tokens_per_s",
                                        "max_concurrent_requests",
                                        "rtfx",
                                        "mean_ttft_ms",
                                        "median_ttft_ms",
                                        "std_ttft_ms",
                                        "p99_ttft_ms",
                                        "mean_tpot_ms",
                                        "median_tpot_ms",
                                        "std_tpot_ms",
                                        "p99_tpot_ms",
                                        "mean_itl_ms",
                                        "median_itl_ms",
                                        "std_itl_ms",
                                        "p99_itl_ms"};

TEST(ResultJson, KeysAreVllms) {
  const LoadResult load = OneAnswer();
  const Metrics metrics = CalculateMetrics(load.outcomes, load.duration_s, {});
  const api::Json json = ResultJson(PlainRun(), metrics, load, false);
  EXPECT_THAT(KeysOf(json), ElementsAreArray(kReportKeys));
  EXPECT_EQ(*json.FindString("request_rate"), "inf");
  EXPECT_TRUE(json.Find("label")->is_null());
  EXPECT_TRUE(json.Find("max_concurrency")->is_null());
  EXPECT_TRUE(json.Find("request_goodput")->is_null());
  EXPECT_NEAR(*json.Find("mean_ttft_ms")->real(), 100, 1e-9);

  std::vector<std::string> detailed = kReportKeys;
  const std::vector<std::string> more = {"input_lens",  "output_lens",     "ttfts", "itls",
                                         "start_times", "generated_texts", "errors"};
  detailed.insert(std::find(detailed.begin(), detailed.end(), "latencies"), more.begin(),
                  more.end());
  const api::Json all = ResultJson(PlainRun(), metrics, load, true);
  EXPECT_THAT(KeysOf(all), ElementsAreArray(detailed));
  EXPECT_EQ(all.Find("itls")->Dump(), "[[0.1,0.3]]");
  EXPECT_EQ(all.Find("generated_texts")->Dump(), "[\"hi\"]");
  EXPECT_EQ(all.Find("output_lens")->Dump(), "[3]");
}

TEST(ResultJson, WhatWasAskedForBeside) {
  const LoadResult load = OneAnswer();
  MetricsOptions options;
  options.percents = {25, 99.9};
  options.goodput_ms = {{"ttft", 1000}};
  ServeRun run = PlainRun();
  run.metadata = {{"tp", "1"}};
  run.max_concurrency = 4;
  run.label = "mine";
  run.traffic.ramp_up = RampUp{true, 1, 3};
  run.percentile_metrics = {"e2el", "client_queue_time"};
  const Metrics metrics = CalculateMetrics(load.outcomes, load.duration_s, options);
  const api::Json json = ResultJson(run, metrics, load, false);
  EXPECT_EQ(*json.FindString("tp"), "1");
  EXPECT_EQ(*json.FindString("ramp_up_strategy"), "exponential");
  EXPECT_EQ(json.Find("ramp_up_end_rps")->Dump(), "3");
  EXPECT_EQ(json.Find("rps_change_events")->array()->size(), 1u);
  EXPECT_NE(json.Find("p99.9_e2el_ms"), nullptr);
  EXPECT_NE(json.Find("p25_client_queue_time_ms"), nullptr);
  EXPECT_EQ(json.Find("mean_ttft_ms"), nullptr);
  EXPECT_NEAR(*json.Find("request_goodput")->real(), 0.5, 1e-12);
}

TEST(RenderTable, IsVllms) {
  const LoadResult load = OneAnswer();
  ServeRun run = PlainRun();
  run.traffic.request_rate = 1;
  const std::string table =
      RenderTable(run, CalculateMetrics(load.outcomes, load.duration_s, {}), load.duration_s);
  EXPECT_EQ(table,
            "============ Serving Benchmark Result ============\n"
            "Successful requests:                     1         \n"
            "Failed requests:                         0         \n"
            "Request rate configured (RPS):           1.00      \n"
            "Benchmark duration (s):                  2.00      \n"
            "Total input tokens:                      7         \n"
            "Total generated tokens:                  3         \n"
            "Request throughput (req/s):              0.50      \n"
            "Output token throughput (tok/s):         1.50      \n"
            "Peak output token throughput (tok/s):    3.00      \n"
            "Peak concurrent requests:                1.00      \n"
            "Total token throughput (tok/s):          5.00      \n"
            "---------------Time to First Token----------------\n"
            "Mean TTFT (ms):                          100.00    \n"
            "Median TTFT (ms):                        100.00    \n"
            "P99 TTFT (ms):                           100.00    \n"
            "-----Time per Output Token (excl. 1st token)------\n"
            "Mean TPOT (ms):                          200.00    \n"
            "Median TPOT (ms):                        200.00    \n"
            "P99 TPOT (ms):                           200.00    \n"
            "---------------Inter-token Latency----------------\n"
            "Mean ITL (ms):                           200.00    \n"
            "Median ITL (ms):                         200.00    \n"
            "P99 ITL (ms):                            298.00    \n"
            "==================================================\n");
  run.max_concurrency = 8;
  run.traffic.request_rate = std::numeric_limits<double>::infinity();
  run.percentile_metrics = {"e2el", "client_queue_time", "e2el_including_client_queue"};
  const std::string other =
      RenderTable(run, CalculateMetrics(load.outcomes, load.duration_s, {}), load.duration_s);
  EXPECT_THAT(other, AllOf(HasSubstr("Maximum request concurrency:             8         \n"),
                           HasSubstr("----------------End-to-end Latency----------------\n"),
                           HasSubstr("---------------Client-side Queueing---------------\n"),
                           Not(HasSubstr("incl. Client Queue")), Not(HasSubstr("RPS")),
                           Not(HasSubstr("TTFT"))));
}

// The figures of a run of vLLM's that was published with its table.
TEST(RenderTable, GuessesAreShownAsVllmShowsThem) {
  const LoadResult load = OneAnswer();
  Metrics metrics = CalculateMetrics(load.outcomes, load.duration_s, {});
  metrics.drafts = {.drafts = 37085, .draft_tokens = 111255, .accepted_tokens = 60052,
                    .accepted_per_position = {28444, 19102, 12506}};
  EXPECT_THAT(RenderTable(PlainRun(), metrics, load.duration_s),
              ::testing::EndsWith("---------------Speculative Decoding---------------\n"
                                  "Acceptance rate (%):                     53.98     \n"
                                  "Acceptance length:                       2.62      \n"
                                  "Drafts:                                  37085     \n"
                                  "Draft tokens:                            111255    \n"
                                  "Accepted tokens:                         60052     \n"
                                  "Per-position acceptance (%):\n"
                                  "  Position 0:                            76.70     \n"
                                  "  Position 1:                            51.51     \n"
                                  "  Position 2:                            33.72     \n"
                                  "==================================================\n"));
  const api::Json json = ResultJson(PlainRun(), metrics, load, false);
  EXPECT_EQ(*json.Find("spec_decode_num_drafts")->integer(), 37085);
  EXPECT_EQ(*json.Find("spec_decode_draft_tokens")->integer(), 111255);
  EXPECT_EQ(*json.Find("spec_decode_accepted_tokens")->integer(), 60052);
  EXPECT_NEAR(*json.Find("spec_decode_acceptance_rate")->real(), 53.98, 0.005);
  EXPECT_NEAR(*json.Find("spec_decode_acceptance_length")->real(), 2.62, 0.005);
  EXPECT_EQ(json.Find("spec_decode_per_position_acceptance_rates")->array()->size(), 3u);
}

TEST(ResultFileName, IsVllms) {
  ServeRun run = PlainRun();
  EXPECT_EQ(ResultFileName(run), "openai-infqps-Qwen3-32B-W8A8-20251125-023400.json");
  run.traffic.request_rate = 1;
  EXPECT_EQ(ResultFileName(run), "openai-1.0qps-Qwen3-32B-W8A8-20251125-023400.json");
  run.traffic.request_rate = 0.25;
  run.max_concurrency = 8;
  run.label = "mine";
  run.model_id = "/models/Qwen3-0.6B/";
  EXPECT_EQ(ResultFileName(run), "mine-0.25qps-concurrency8-Qwen3-0.6B-20251125-023400.json");
  run.traffic.ramp_up = RampUp{false, 1, 5};
  EXPECT_EQ(ResultFileName(run),
            "mine-ramp-up-linear-1qps-5qps-concurrency8-Qwen3-0.6B-20251125-023400.json");
}

TEST(PythonFloat, PrintsAsPython) {
  EXPECT_EQ(PythonFloat(1), "1.0");
  EXPECT_EQ(PythonFloat(0.1), "0.1");
  EXPECT_EQ(PythonFloat(-3), "-3.0");
  EXPECT_EQ(PythonFloat(1e16), "1e+16");
  EXPECT_EQ(PythonFloat(std::numeric_limits<double>::infinity()), "inf");
}

TEST(MakeSpec, BodiesAreVllms) {
  Target target;
  target.url = "http://h:1/v1/completions";
  target.model = "m";
  target.headers = {{"Authorization", "Bearer k"}};
  const BenchRequest request{"a \"b\"", 3, 16};
  net::HttpRequestSpec spec = MakeSpec(target, request, "bench-1-0");
  EXPECT_EQ(spec.method, "POST");
  EXPECT_EQ(spec.url, target.url);
  EXPECT_EQ(
      spec.body,
      R"({"model":"m","prompt":"a \"b\"","repetition_penalty":1.0,"max_tokens":16,"stream":true,)"
      R"("stream_options":{"include_usage":true}})");
  EXPECT_THAT(spec.headers,
              testing::Contains(std::pair<std::string, std::string>("x-request-id", "bench-1-0")));
  EXPECT_THAT(spec.headers,
              testing::Contains(std::pair<std::string, std::string>("Authorization", "Bearer k")));

  target.chat = true;
  target.ignore_eos = true;
  target.logprobs = 2;
  target.extra_body = {{"temperature", api::Json(0.5)}, {"stream", api::Json(false)}};
  spec = MakeSpec(target, request, "");
  EXPECT_EQ(
      spec.body,
      R"({"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a \"b\""}]}],)"
      R"("max_completion_tokens":16,"logprobs":true,"top_logprobs":2,"stream":false,)"
      R"("stream_options":{"include_usage":true},"ignore_eos":true,"temperature":0.5})");
}

}  // namespace
}  // namespace tiercel::bench
