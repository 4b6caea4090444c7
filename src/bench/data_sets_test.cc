#include "bench/data_sets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "bench/record_file.h"

namespace tiercel::bench {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

class DataSets : public testing::Test {
 protected:
  DataSets() {
    auto tokenizer = text::Tokenizer::Load(TIERCEL_TEST_DATA "/tiny-qwen3");
    EXPECT_TRUE(tokenizer) << tokenizer.error();
    tools_.tokenizer = *tokenizer;
    tools_.render_chat = [](std::string_view text) -> Expected<std::string> {
      return fmt::format("<{}>", text);
    };
    options_.num_prompts = 8;
  }
  ~DataSets() override { std::filesystem::remove(path_); }

  void Write(std::string_view name, std::string_view text) {
    options_.name = name;
    options_.path = path_ = testing::TempDir() + "/tiercel_data_set_" +
                            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::ofstream(path_, std::ios::binary) << text;
  }

  std::vector<BenchRequest> Make() {
    auto set = MakeDataSet(options_, tools_);
    EXPECT_TRUE(set) << set.error();
    if (!set) return {};
    warnings_ = set->warnings;
    return set->requests;
  }
  std::string Fault() {
    const auto set = MakeDataSet(options_, tools_);
    EXPECT_FALSE(set);
    EXPECT_TRUE(set || set.error().code() == StatusCode::kInvalidArgument ||
                set.error().code() == StatusCode::kNotFound);
    return set ? "" : set.error().message();
  }
  int64_t Tokens(const std::string& text) {
    return std::ssize(*tools_.tokenizer->Encode(text, /*add_special=*/true));
  }

  DataSetOptions options_;
  TextTools tools_;
  std::vector<std::string> warnings_;
  std::string path_;
};

TEST_F(DataSets, RandomPromptsHaveTheLengthAskedFor) {
  options_.random.input_len = 200;
  options_.random.output_len = 16;
  const auto requests = Make();
  ASSERT_EQ(requests.size(), 8u);
  std::set<std::string> different;
  for (const BenchRequest& request : requests) {
    EXPECT_EQ(Tokens(request.prompt), 200);
    EXPECT_EQ(request.prompt_tokens, 200);
    EXPECT_EQ(request.output_tokens, 16);
    different.insert(request.prompt);
  }
  EXPECT_EQ(different.size(), 8u);
  EXPECT_TRUE(warnings_.empty());
  EXPECT_EQ(Make()[3].prompt, requests[3].prompt) << "the same seed";
  options_.seed = 1;
  EXPECT_NE(Make()[3].prompt, requests[3].prompt);
}

TEST_F(DataSets, RandomLengthsFillTheirRange) {
  options_.num_prompts = 500;
  options_.random.input_len = 10;
  options_.random.output_len = 20;
  options_.random.input_range = 0.5;
  options_.random.output_range = 0.25;
  options_.random.prefix_len = 7;
  std::set<int64_t> inputs, outputs;
  const auto requests = Make();
  const std::string prefix = requests[0].prompt.substr(0, requests[0].prompt.find(' ', 1));
  for (const BenchRequest& request : requests) {
    inputs.insert(request.prompt_tokens);
    outputs.insert(request.output_tokens);
    EXPECT_EQ(Tokens(request.prompt), request.prompt_tokens);
    EXPECT_THAT(request.prompt, StartsWith(prefix));
  }
  EXPECT_EQ(*inputs.begin(), 7 + 5);
  EXPECT_EQ(*inputs.rbegin(), 7 + 15);
  EXPECT_EQ(inputs.size(), 11u);
  EXPECT_EQ(*outputs.begin(), 15);
  EXPECT_EQ(*outputs.rbegin(), 25);
}

TEST_F(DataSets, FlagsOutOfRangeAreNamed) {
  options_.random.input_len = 0;
  EXPECT_THAT(Fault(), HasSubstr("--random-input-len"));
  options_.random.input_len = int64_t{1} << 40;
  EXPECT_THAT(Fault(), HasSubstr("--random-input-len"));
  options_.random.input_len = 1 << 20;
  options_.num_prompts = 1'000'000;
  EXPECT_THAT(Fault(), AllOf(HasSubstr("--num-prompts"), HasSubstr("in all")));
  options_.random.input_range = 1;
  EXPECT_THAT(Fault(), HasSubstr("--random-range-ratio"));
  options_.num_prompts = 0;
  EXPECT_THAT(Fault(), HasSubstr("--num-prompts"));
  options_.num_prompts = 1;
  options_.path = "/x";
  EXPECT_THAT(Fault(), HasSubstr("--dataset-path"));
  options_.name = "custom";
  options_.path = "";
  EXPECT_THAT(Fault(), HasSubstr("--dataset-path"));
  options_.path = "/nowhere/x";
  EXPECT_THAT(Fault(), HasSubstr("/nowhere/x"));
}

TEST_F(DataSets, PrefixRepetition) {
  options_.name = "prefix_repetition";
  options_.prefix_repetition = {20, 10, 3, 5};
  options_.num_prompts = 10;
  const auto requests = Make();
  ASSERT_EQ(requests.size(), 9u);  // 3 · ⌊10 / 3⌋
  std::map<std::string, int> prefixes;
  for (const BenchRequest& request : requests) {
    EXPECT_EQ(Tokens(request.prompt), 30);
    EXPECT_EQ(request.output_tokens, 5);
    const auto tokens = *tools_.tokenizer->Encode(request.prompt, false);
    ++prefixes[tools_.tokenizer->Decode(std::span(tokens).first(20), false)];
  }
  EXPECT_EQ(prefixes.size(), 3u);
  for (const auto& [prefix, count] : prefixes) EXPECT_EQ(count, 3);
  options_.num_prompts = 2;
  EXPECT_THAT(Fault(), HasSubstr("--prefix-repetition-num-prefixes"));
}

TEST_F(DataSets, ShareGpt) {
  Write("sharegpt", R"( [
    {"id": "a", "conversations": [{"from": "human", "value": "one two three four five, \"six\" ]"},
                                  {"from": "gpt", "value": "seven eight nine ten"}]},
    {"id": "short", "conversations": [{"value": "."}, {"value": "a long enough answer this is"}]},
    {"id": "alone", "conversations": [{"value": "a question without an answer"}]},
    {"id": "none"}
  ] )");
  options_.num_prompts = 1;
  const auto requests = Make();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].prompt, "one two three four five, \"six\" ]");
  EXPECT_EQ(requests[0].prompt_tokens, Tokens(requests[0].prompt));
  EXPECT_EQ(requests[0].output_tokens, Tokens("seven eight nine ten"));
  options_.sharegpt_output_len = 3;
  EXPECT_EQ(Make()[0].output_tokens, 3);
  EXPECT_TRUE(warnings_.empty());
  options_.num_prompts = 5;
  EXPECT_THAT(Make(), SizeIs(5));
  EXPECT_THAT(warnings_, Each(HasSubstr("found 1 prompts, 5 were asked for")));
  options_.oversample = false;
  EXPECT_THAT(Make(), SizeIs(1));
}

TEST_F(DataSets, FaultsOfShareGpt) {
  options_.shuffle = false;
  Write("sharegpt", R"([{"conversations":[{"value":1},{"value":"x"}]}])");
  EXPECT_THAT(Fault(), HasSubstr("entry 1: conversations[0].value: expected a string"));
  Write("sharegpt", R"([{}, {"a": tru}])");
  EXPECT_THAT(Fault(), HasSubstr("entry 2: "));
  Write("sharegpt", R"([{"conversations":[)");
  EXPECT_THAT(Fault(), HasSubstr("entry 1: the list ends within it"));
  Write("sharegpt", R"([{} {}])");
  EXPECT_THAT(Fault(), HasSubstr("entry 1: expected ',' or ']'"));
  Write("sharegpt", R"({"a": 1})");
  EXPECT_THAT(Fault(), HasSubstr("no JSON list"));
  Write("sharegpt", "[]");
  EXPECT_THAT(Fault(), HasSubstr("found no prompt"));
  Write("sharegpt", "");
  EXPECT_THAT(Fault(), HasSubstr(path_));
}

TEST_F(DataSets, Custom) {
  Write("custom", "{\"prompt\": \"a b\", \"output_tokens\": 7}\r\n\n{\"prompt\": \"c\"}\n");
  options_.num_prompts = 2;
  options_.shuffle = false;
  auto requests = Make();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].prompt, "<a b>");
  EXPECT_EQ(requests[0].prompt_tokens, Tokens("<a b>"));
  EXPECT_EQ(requests[1].prompt, "<c>");
  EXPECT_EQ(requests[0].output_tokens, 256);
  options_.apply_chat_template = false;
  EXPECT_EQ(Make()[1].prompt, "c");
  options_.custom_output_len = -1;
  EXPECT_THAT(Fault(), HasSubstr("line 3: output_tokens"));
  options_.num_prompts = 1;
  EXPECT_EQ(Make()[0].output_tokens, 7);
  options_.apply_chat_template = true;
  tools_.render_chat = nullptr;
  EXPECT_THAT(Fault(), HasSubstr("--skip-chat-template"));
  Write("custom", "{\"prompt\": \"a\"}\n{\"prompt\": 1}\n");
  options_.num_prompts = 2;
  options_.custom_output_len = 3;
  options_.apply_chat_template = false;
  EXPECT_THAT(Fault(), HasSubstr("line 2: prompt: expected a string"));
  Write("custom", "{\"prompt\": \"a\"}\nnot json\n");
  EXPECT_THAT(Fault(), HasSubstr("line 2: "));
}

TEST_F(DataSets, Sonnet) {
  std::string poem;
  for (int i = 0; i < 40; ++i) poem += fmt::format("Shall I compare line {} to a summer day\n", i);
  Write("sonnet", poem);
  options_.sonnet = {300, 9, 120};
  const auto requests = Make();
  ASSERT_EQ(requests.size(), 8u);
  for (const BenchRequest& request : requests) {
    EXPECT_LE(Tokens(request.prompt), 300);
    EXPECT_EQ(Tokens(request.prompt), request.prompt_tokens);
    EXPECT_GT(request.prompt_tokens, 200);
    EXPECT_EQ(request.output_tokens, 9);
    EXPECT_THAT(request.prompt, HasSubstr("line 0 to a summer day\nShall I compare line 1 "));
    EXPECT_THAT(request.prompt, StartsWith("<"));
  }
  options_.sonnet.input_len = 125;
  EXPECT_THAT(Fault(), HasSubstr("--sonnet-input-len"));
}

TEST_F(DataSets, BurstGpt) {
  Write("burstgpt",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\r\n"
        "5,GPT-4,12,7,19,Conversation log\r\n6,ChatGPT,1000,8,1008,Conversation log\r\n"
        "7,GPT-4,13,0,13,Conversation log\r\n8,GPT-4,14,9,23,API log\r\n");
  options_.num_prompts = 2;
  std::set<std::pair<int64_t, int64_t>> lengths;
  for (const BenchRequest& request : Make()) {
    EXPECT_EQ(Tokens(request.prompt), request.prompt_tokens);
    lengths.insert({request.prompt_tokens, request.output_tokens});
  }
  EXPECT_EQ(lengths, (std::set<std::pair<int64_t, int64_t>>{{12, 7}, {14, 9}}));
  options_.num_prompts = 20;
  EXPECT_THAT(Make(), SizeIs(20));
  Write("burstgpt", "Timestamp,Model,Request tokens,Response tokens\n5,GPT-4,x,7\n");
  EXPECT_THAT(Fault(), HasSubstr("line 2: Request tokens: found 'x'"));
  Write("burstgpt", "Timestamp,Model,Request tokens,Response tokens\n5,GPT-4,7\n");
  EXPECT_THAT(Fault(), HasSubstr("line 2: found 3 columns, the first line has 4"));
  Write("burstgpt", "a,b\n1,2\n");
  EXPECT_THAT(Fault(), AllOf(HasSubstr(path_), HasSubstr("'Model'")));
}

}  // namespace
}  // namespace tiercel::bench
