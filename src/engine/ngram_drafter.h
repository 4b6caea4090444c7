// NgramDrafter: guesses the next tokens of a sequence from what followed its last tokens where they stood before, in its
// prompt or its output ("prompt lookup"). Code that is edited and texts that are quoted repeat themselves for long. Pure
// logic.
//
// A guess never changes a token: each of its rows is sampled as if there were no guess (see LogitRow in batch_plan.h), and
// the first token that differs ends it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tiercel::engine {

// vLLM's --speculative-config of the method "ngram".
struct DraftOptions {
  int64_t num_tokens = 0;  // at most so many are guessed at a time
  // The last tokens that are looked for: the longest run of them that is found, within these bounds.
  int64_t lookup_min = 5, lookup_max = 5;
};

// At most so many, of either: a step of a longer guess costs what one of a prompt does.
inline constexpr int64_t kMostDraftTokens = 64;

class NgramDrafter {
 public:
  // max_length: of a sequence.
  NgramDrafter(const DraftOptions& options, int64_t max_length);

  // *drafts = at most `most` tokens that followed the longest run at the place nearest to the end; what stands at the
  // end goes on as it repeats. Empty where no run is found. Allocates nothing if *drafts has room.
  void Guess(std::span<const int32_t> prompt, std::span<const int32_t> output, int64_t most,
             std::vector<int32_t>* drafts);

 private:
  int64_t Find() const;

  const DraftOptions options_;
  std::vector<int32_t> tokens_;  // prompt and output
};

}  // namespace tiercel::engine
