#include "bench/random_text.h"

#include <algorithm>

#include "text/utf8.h"

namespace tiercel::bench {
namespace {

// Fewer different words than this make prompts that look alike.
constexpr size_t kEnoughWords = 64;
// Rounds of Fit. Words need one; of other vocabularies most prompts are right after three.
constexpr int kMaxRounds = 10;

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool IsSpacedWord(std::string_view bytes) {
  return bytes.size() > 1 && bytes[0] == ' ' &&
         std::all_of(bytes.begin() + 1, bytes.end(), &IsLetter);
}

}  // namespace

uint64_t Below(Random* random, uint64_t bound) {
  return std::uniform_int_distribution<uint64_t>(0, bound - 1)(*random);
}

Expected<RandomText> RandomText::Create(const text::Tokenizer* tokenizer) {
  RandomText result(tokenizer);
  std::vector<int32_t> texts;
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    const std::string_view bytes = tokenizer->TokenBytes(id);
    if (bytes.empty() || tokenizer->IsSpecial(id)) continue;
    if (IsSpacedWord(bytes)) result.words_.push_back(id);
    if (text::ValidUtf8(bytes) == bytes) texts.push_back(id);
  }
  if (result.words_.size() < kEnoughWords) result.words_ = std::move(texts);
  if (result.words_.empty()) {
    return Unexpected(InvalidArgument("the tokenizer has no token that is text"));
  }
  return result;
}

std::vector<int32_t> RandomText::Tokens(int64_t count, Random* random) const {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = words_[Below(random, words_.size())];
  return tokens;
}

Expected<RandomText::Prompt> RandomText::Fit(std::vector<int32_t> tokens, Random* random) const {
  const size_t wanted = tokens.size();
  for (int round = 1;; ++round) {
    Prompt prompt{tokenizer_->Decode(tokens, /*skip_special=*/false)};
    ASSIGN_OR_RETURN(tokens, tokenizer_->Encode(prompt.text, /*add_special=*/false));
    prompt.tokens = std::ssize(tokens);
    if (tokens.size() == wanted || round == kMaxRounds) return prompt;
    const size_t before = tokens.size();
    tokens.resize(wanted);
    for (size_t i = before; i < wanted; ++i) tokens[i] = words_[Below(random, words_.size())];
  }
}

}  // namespace tiercel::bench
