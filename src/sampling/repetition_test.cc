#include "sampling/repetition.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace tiercel::sampling {
namespace {

// The definition, word by word: min_count copies of one pattern stand at the end.
bool Repeats(const std::vector<int32_t>& output, const RepetitionDetection& d) {
  for (int size = std::max(d.min_pattern_size, 1); size <= d.max_pattern_size; ++size) {
    const std::vector<int32_t> pattern(
        output.end() - std::min<std::ptrdiff_t>(size, std::ssize(output)), output.end());
    std::vector<int32_t> copies;
    for (int i = 0; i < d.min_count; ++i) copies.insert(copies.end(), pattern.begin(), pattern.end());
    if (std::ssize(pattern) == size && copies.size() <= output.size() &&
        std::equal(copies.rbegin(), copies.rend(), output.rbegin())) {
      return true;
    }
  }
  return false;
}

TEST(RepetitionTest, IsFoundWhereTheDefinitionSaysSo) {
  std::mt19937 random(1);
  int found = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<int32_t> output(random() % 14);
    for (int32_t& token : output) token = static_cast<int32_t>(random() % 2);
    const int max = static_cast<int>(random() % 6);
    const RepetitionDetection d{max, static_cast<int>(random() % static_cast<unsigned>(max + 1)),
                                2 + static_cast<int>(random() % 3)};
    const bool expected = Repeats(output, d);
    found += expected;
    ASSERT_EQ(EndsInRepetition(output, d), expected) << i;
  }
  EXPECT_GT(found, 1000);
}

}  // namespace
}  // namespace tiercel::sampling
