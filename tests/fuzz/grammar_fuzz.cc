// Any bytes as a grammar: the first says of which kind. It is refused in few words, or a matcher follows
// it for some tokens, chosen by the bytes, and never allows nothing.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "text/gbnf.h"
#include "text/grammar.h"

namespace tiercel::text {
namespace {

constexpr int kSteps = 20;

std::shared_ptr<const Tokenizer> TinyTokenizer() {
  auto tokenizer = Tokenizer::Load(TIERCEL_TEST_DATA "/tiny-qwen3");
  CHECK_MSG(tokenizer.has_value(), "{}", tokenizer.error().message());
  return *tokenizer;
}

GrammarSource SourceOf(std::string_view data) {
  const std::string text(data.substr(1));
  switch (data[0] % 4) {
    case 0: return {GrammarKind::kJsonSchema, text};
    case 1: return {GrammarKind::kRegex, text};
    case 2: return {GrammarKind::kLark, text};
    default: break;
  }
  const Expected<std::string> lark = GbnfToLark(text);
  return {GrammarKind::kLark, lark ? *lark : std::string()};
}

// The allowed token that `choice` says, counted from the first.
int32_t Pick(const std::vector<uint32_t>& mask, size_t choice) {
  std::vector<int32_t> allowed;
  for (size_t t = 0; t < mask.size() * 32; ++t) {
    if ((mask[t / 32] >> (t % 32) & 1) != 0) allowed.push_back(static_cast<int32_t>(t));
  }
  CHECK(!allowed.empty());
  return allowed[choice % allowed.size()];
}

}  // namespace
}  // namespace tiercel::text

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tiercel;
  using namespace tiercel::text;
  static const std::shared_ptr<const Tokenizer> tokenizer = TinyTokenizer();
  static GrammarCompiler compiler(tokenizer, tokenizer->vocab_size(), {*tokenizer->eos()});
  if (size == 0) return 0;
  const auto grammar = compiler.Compile(SourceOf({reinterpret_cast<const char*>(data), size}));
  if (!grammar) {
    CHECK_LT(grammar.error().message().size(), size_t{4000});
    return 0;
  }
  const auto matcher = (*grammar)->Start();
  std::vector<uint32_t> mask(static_cast<size_t>(tokenizer->vocab_size() + 31) / 32);
  for (size_t step = 0; step < kSteps && !matcher->ended(); ++step) {
    if (!matcher->Mask(mask).ok()) return 0;
    if (!matcher->Accept(Pick(mask, data[step % size] * size_t{257} + step)).ok()) return 0;
  }
  return 0;
}
