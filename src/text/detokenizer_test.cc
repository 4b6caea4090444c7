#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "text/utf8.h"
#include "text/utf8_cases.h"

namespace tiercel::text {
namespace {

std::shared_ptr<const Tokenizer> Small() {
  auto tokenizer = Tokenizer::Load(TIERCEL_TEST_DATA "/tokenizer/qwen3-small");
  EXPECT_TRUE(tokenizer) << tokenizer.error();
  return *tokenizer;
}

TEST(Detokenizer, DeltasConcatenateToDecode) {
  const auto tokenizer = Small();
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    // Half of the ids are single bytes, so characters are cut and broken everywhere; some ids lie
    // beyond the vocabulary.
    std::vector<int32_t> ids(random() % 40);
    for (int32_t& id : ids) id = random() % 2 ? random() % 256 : random() % (tokenizer->vocab_size() + 9);
    DetokenizerOptions options;
    options.skip_special_tokens = random() % 2;
    Detokenizer detokenizer(*tokenizer, options);
    std::string text;
    for (int32_t id : ids) text += detokenizer.Append(id);
    text += detokenizer.Finish();
    // A character that the end leaves unfinished is left out.
    std::string bytes;
    for (const int32_t id : ids) {
      if (!(options.skip_special_tokens && tokenizer->IsSpecial(id))) bytes += tokenizer->TokenBytes(id);
    }
    std::string expected = tokenizer->Decode(ids, options.skip_special_tokens);
    if (CompleteUtf8Prefix(bytes) < bytes.size()) {
      ASSERT_TRUE(expected.ends_with(kReplacementCharacter));
      expected.resize(expected.size() - kReplacementCharacter.size());
    }
    ASSERT_EQ(text, expected) << round;
  }
}

// Whatever ends an output, bytes of a character that is not whole are no text.
TEST(Detokenizer, LeavesOutAnUnfinishedCharacter) {
  const auto tokenizer = Small();
  const auto byte_tokens = [&](std::string_view bytes) {
    std::vector<int32_t> ids;
    for (const char c : bytes) {
      for (int32_t id = 0; id < 256; ++id) {
        if (tokenizer->TokenBytes(id) == std::string_view(&c, 1)) ids.push_back(id);
      }
    }
    return ids;
  };
  for (const Utf8Case& c : kUtf8Cases) {
    const DetokenizerOptions options;
    Detokenizer detokenizer(*tokenizer, options);
    std::string text;
    for (const int32_t id : byte_tokens(c.bytes())) text += detokenizer.Append(id);
    text += detokenizer.Finish();
    EXPECT_EQ(text, WithReplacements(c.piece)) << c.hex;
  }
}

TEST(Detokenizer, CutsAtTheSamePlaceInEverySplit) {
  const auto tokenizer = Small();
  const std::string text = "one STO STOP two 客单价🌶 END";
  // Byte tokens alone, and the tokenizer's own split.
  std::vector<std::vector<int32_t>> splits = {*tokenizer->Encode(text, false), {}};
  for (char c : text) {
    for (int32_t id = 0; id < 256; ++id) {
      if (tokenizer->TokenBytes(id) == std::string_view(&c, 1)) splits[1].push_back(id);
    }
  }
  ASSERT_EQ(splits[1].size(), text.size());
  for (const bool include : {false, true}) {
    for (const std::string& stop : {std::string("STOP"), std::string("单价"), std::string("🌶 E")}) {
      const std::string expected = text.substr(0, text.find(stop) + (include ? stop.size() : 0));
      for (const auto& ids : splits) {
        DetokenizerOptions options;
        options.stop = StopStrings({stop, "never"});
        options.include_stop_str_in_output = include;
        Detokenizer detokenizer(*tokenizer, options);
        std::string got;
        for (int32_t id : ids) {
          got += detokenizer.Append(id);
          if (detokenizer.matched_stop()) break;
        }
        EXPECT_EQ(got, expected);
        EXPECT_EQ(detokenizer.matched_stop(), stop);
      }
    }
  }
}

TEST(Detokenizer, HoldsBackOnlyWhatMayBecomeAStop) {
  const auto tokenizer = Small();
  DetokenizerOptions options;
  options.stop = {"ZZZZZZZZZZ"};
  Detokenizer detokenizer(*tokenizer, options);
  const auto ids = *tokenizer->Encode("hello", false);
  std::string text;
  for (int32_t id : ids) text += detokenizer.Append(id);
  EXPECT_EQ(text, "hello");
  const auto last = *tokenizer->Encode("ZZ", false);
  for (int32_t id : last) EXPECT_EQ(detokenizer.Append(id), "");
  EXPECT_EQ(detokenizer.Finish(), "ZZ");
}

}  // namespace
}  // namespace tiercel::text
