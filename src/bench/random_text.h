// Random prompts with a number of tokens that a server counts as well.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

namespace tiercel::bench {

using Random = std::mt19937_64;

// 0 … bound − 1; bound > 0.
uint64_t Below(Random* random, uint64_t bound);

template <typename T>
void Shuffle(std::vector<T>* items, Random* random) {
  for (size_t i = items->size(); i > 1; --i) std::swap((*items)[i - 1], (*items)[Below(random, i)]);
}

// Draws tokens that stay the same when their text is tokenized again: words with a space before
// them, of which no two grow together. Of a vocabulary that has hardly any, all that are text.
class RandomText {
 public:
  static Expected<RandomText> Create(const text::Tokenizer* tokenizer);  // outlives it

  std::vector<int32_t> Tokens(int64_t count, Random* random) const;

  struct Prompt {
    std::string text;
    int64_t tokens = 0;  // that `text` has, without BOS; `wanted`, or nearly
  };
  // The text of the tokens, changed until its own tokens are as many.
  Expected<Prompt> Fit(std::vector<int32_t> tokens, Random* random) const;

 private:
  explicit RandomText(const text::Tokenizer* tokenizer) : tokenizer_(tokenizer) {}

  const text::Tokenizer* tokenizer_;
  std::vector<int32_t> words_;
};

}  // namespace tiercel::bench
