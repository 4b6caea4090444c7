// What the sweep's files come to. Expected words and names are those that vLLM's documentation and its tests show, and
// what CPython's str() and shlex.split give.
#include "bench/parameter_sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/json_reader.h"
#include "bench/sweep_summary.h"

namespace tiercel::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<SweepItem> Parse(std::string_view json) {
  auto items = ParseParameterSweep("p.json", json);
  EXPECT_TRUE(items) << items.error();
  return items ? *items : std::vector<SweepItem>{};
}

SweepItem One(std::string_view json) { return Parse("[" + std::string(json) + "]").at(0); }

std::string ErrorOf(std::string_view json) {
  const auto items = ParseParameterSweep("p.json", json);
  EXPECT_FALSE(items);
  return items ? "" : items.error().message();
}

TEST(ParameterSweep, ListsAndNamedObjects) {
  const auto list = Parse(R"([{"max_num_seqs": 32, "max_num_batched_tokens": 1024}, {}])");
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(SweepName(list[0]), "max_num_seqs=32-max_num_batched_tokens=1024");
  EXPECT_TRUE(list[1].empty());
  const auto named = Parse(R"({"small": {"max_num_seqs": 32}, "large": {"max_num_seqs": 64}})");
  ASSERT_EQ(named.size(), 2u);
  EXPECT_EQ(SweepName(named[0]), "small");
  EXPECT_THAT(ApplyParameters(named[1], {"vllm"}), ElementsAre("vllm", "--max-num-seqs", "64"));
}

TEST(ParameterSweep, WhatIsWrongIsSaid) {
  EXPECT_THAT(ErrorOf("[1]"), HasSubstr("p.json: found 1, expected an object"));
  EXPECT_THAT(ErrorOf("3"), HasSubstr("p.json: found 3, expected a list"));
  EXPECT_THAT(ErrorOf("[{]"), HasSubstr("p.json: "));
  EXPECT_THAT(ErrorOf(R"([{"_benchmark_name": "a"}, {"_benchmark_name": "a"}])"), HasSubstr("a twice"));
}

TEST(ParameterSweep, FlagsAreReplacedOrAdded) {
  const std::vector<std::string> command = {"vllm", "serve", "m", "--max-num-seqs", "8", "--random_input_len", "9"};
  EXPECT_THAT(ApplyParameters(One(R"({"max_num_seqs": 32})"), command),
              ElementsAre("vllm", "serve", "m", "--max-num-seqs", "32", "--random_input_len", "9"));
  EXPECT_THAT(ApplyParameters(One(R"({"random-input-len": 5, "seed": 1})"), command),
              ElementsAre("vllm", "serve", "m", "--max-num-seqs", "8", "--random-input-len", "5", "--seed", "1"));
  EXPECT_THAT(ApplyParameters(One(R"({"max_num_seqs": 4})"), {"x", "--max-num-seqs"}),
              ElementsAre("x", "--max-num-seqs", "4"));
}

TEST(ParameterSweep, ValuesAreWords) {
  EXPECT_THAT(ApplyParameters(One(R"({"enforce_eager": true, "enable_prefix_caching": false})"), {"x"}),
              ElementsAre("x", "--enforce-eager", "--no-enable-prefix-caching"));
  EXPECT_THAT(ApplyParameters(One(R"({"enforce_eager": false})"), {"x", "--enforce-eager"}),
              ElementsAre("x", "--no-enforce-eager"));
  // Keys behind a dot stay as they are.
  EXPECT_THAT(ApplyParameters(One(R"({"compilation_config.use_inductor_graph": true})"), {"x"}),
              ElementsAre("x", "--compilation-config.use_inductor_graph=true"));
  EXPECT_THAT(ApplyParameters(One(R"({"a": 0.5, "b": "c d", "e": 1e3, "f": [1, "g"]})"), {"x"}),
              ElementsAre("x", "--a", "0.5", "--b", "c d", "--e", "1000.0", "--f", "[1, 'g']"));
  const auto words = ApplyParameters(One(R"({"hf_overrides": {"a": 1}})"), {"x"});
  ASSERT_EQ(words.size(), 3u);
  EXPECT_EQ(api::ParseJson(words[2])->Dump(), R"({"a":1})");
}

TEST(ParameterSweep, FoldersAreVllms) {
  const SweepItem serve = One(R"({"max_num_seqs": 32})"), bench = One(R"({"random_input_len": 128})");
  EXPECT_EQ(SweepFolder(serve, bench), "SERVE--max_num_seqs=32-BENCH--random_input_len=128");
  EXPECT_EQ(SweepFolder(serve, {}), "SERVE--max_num_seqs=32");
  EXPECT_EQ(SweepFolder({}, bench), "BENCH--random_input_len=128");
  EXPECT_EQ(SweepFolder({}, {}), "");
  EXPECT_EQ(SweepFolder(One(R"({"dataset_path": "../a/b"})"), {}), "SERVE--dataset_path=___a_b");
}

TEST(ParameterSweep, LinksChooseCombinations) {
  const auto links = ParseLinks("max_num_seqs=max_concurrency, a=b");
  ASSERT_TRUE(links) << links.error();
  EXPECT_TRUE(AreLinked(*links, One(R"({"max_num_seqs": 8, "a": "x"})"), One(R"({"max_concurrency": 8, "b": "x"})")));
  EXPECT_FALSE(AreLinked(*links, One(R"({"max_num_seqs": 8, "a": 1})"), One(R"({"max_concurrency": 9, "b": 1})")));
  EXPECT_FALSE(AreLinked(*links, One(R"({"max_num_seqs": 8})"), One(R"({"max_concurrency": 8, "b": 1})")));
  EXPECT_TRUE(AreLinked(*ParseLinks(""), {}, {}));
  EXPECT_FALSE(ParseLinks("a"));
}

TEST(SplitCommand, IsAShells) {
  EXPECT_THAT(*SplitCommand("--serve-cmd", " vllm  serve\n'a b' \"c \\\"d\\\" 'e'\" f\\ g h''i \"\""),
              ElementsAre("vllm", "serve", "a b", "c \"d\" 'e'", "f g", "hi", ""));
  EXPECT_THAT(SplitCommand("--serve-cmd", "a 'b").error().message(), HasSubstr("--serve-cmd"));
  EXPECT_FALSE(SplitCommand("--serve-cmd", "  "));
}

TEST(PythonText, IsCPythons) {
  const auto text = [](std::string_view json) { return PythonStr(*api::ParseJson(json)); };
  EXPECT_EQ(text("null"), "None");
  EXPECT_EQ(text("true"), "True");
  EXPECT_EQ(text("\"it's\""), "it's");
  EXPECT_EQ(text(R"(["it's", "a", null, {"b": [1.5, false]}])"), R"(["it's", 'a', None, {'b': [1.5, False]}])");
  EXPECT_EQ(text("1.0"), "1.0");
}

TEST(SummaryCsv, IsPandas) {
  std::vector<api::Json> results;
  for (const char* json : {R"({"a": 1, "b": "x,y", "c": null})", R"({"a": 2.5, "d": "say \"hi\"", "b": true})"}) {
    results.push_back(*api::ParseJson(json));
  }
  EXPECT_EQ(SummaryCsv(results), ",a,b,c,d\n0,1,\"x,y\",,\n1,2.5,True,,\"say \"\"hi\"\"\"\n");
}

}  // namespace
}  // namespace tiercel::bench
