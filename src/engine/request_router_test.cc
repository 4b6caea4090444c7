#include "engine/request_router.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>

namespace tiercel::engine {
namespace {

constexpr int kBlock = 10;

struct Prompt {
  int64_t tokens = 0;
  std::vector<BlockHash> blocks;
};

// "a3b2+5", see the file of cases.
Prompt ParsePrompt(std::istringstream text) {
  const PrefixHasher hasher(1, 2);
  Prompt prompt;
  BlockHash hash = hasher.Root("");
  for (char letter; text >> letter;) {
    int count = 0;
    text >> count;
    if (letter == '+') {
      prompt.tokens += count;
      continue;
    }
    for (int32_t i = 0; i < count; ++i) {
      const int32_t tokens[] = {letter, i};
      hash = hasher.Next(hash, tokens);
      prompt.blocks.push_back(hash);
      prompt.tokens += kBlock;
    }
  }
  return prompt;
}

class RouterRun {
 public:
  void Do(const std::string& line) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    if (what == "scenario") {
      router_.reset();
      tickets_.clear();
    } else if (what == "engines") {
      std::string option;
      words >> num_engines_ >> option;
      const int64_t blocks = option.starts_with("blocks=") ? std::stoll(option.substr(7)) : 1000;
      router_ = std::make_unique<RequestRouter>(num_engines_, blocks, kBlock);
    } else if (what == "request") {
      Request(&words);
    } else if (what == "computed" || what == "end") {
      std::string name;
      words >> name;
      ASSERT_TRUE(tickets_.contains(name));
      RequestRouter::Ticket* const ticket = &tickets_[name];
      what == "end" ? router_->Finish(ticket) : router_->PromptDone(ticket);
    } else if (what == "forget") {
      int engine = 0;
      words >> engine;
      router_->Forget(engine);
    } else if (what == "left") {
      for (int engine = 0; engine < num_engines_; ++engine) {
        int64_t tokens = -1;
        words >> tokens;
        EXPECT_EQ(router_->tokens_left(engine), tokens) << "engine " << engine;
      }
    } else {
      ADD_FAILURE() << "unknown word " << what;
    }
  }

 private:
  void Request(std::istringstream* words) {
    std::string name, text;
    *words >> name >> text;
    const Prompt prompt = ParsePrompt(std::istringstream(text));
    RequestRouter::Work work;
    work.prompt_tokens = prompt.tokens;
    work.blocks = prompt.blocks;
    int64_t out = 0;
    for (std::string word; *words >> word && word != "->";) {
      if (word.starts_with("out=")) out = std::stoll(word.substr(4));
      if (word.starts_with("n=")) work.samples = std::stoi(word.substr(2));
    }
    work.output_tokens = out * work.samples;
    int expected = -1;
    *words >> expected;
    tickets_[name] = router_->Route(work);
    EXPECT_EQ(tickets_[name].engine, expected);
  }

  std::unique_ptr<RequestRouter> router_;
  int num_engines_ = 0;
  std::map<std::string, RequestRouter::Ticket> tickets_;
};

TEST(RequestRouter, Cases) {
  std::ifstream file(std::string(TIERCEL_TEST_DATA) + "/routing/cases.txt");
  ASSERT_TRUE(file.is_open());
  RouterRun run;
  std::string scenario;
  int number = 0, count = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    if (line.starts_with("scenario")) scenario = line, ++count;
    SCOPED_TRACE(testing::Message() << scenario << ", line " << number << ": " << line);
    run.Do(line);
  }
  EXPECT_GE(count, 10);
}

}  // namespace
}  // namespace tiercel::engine
