#include "engine/ngram_drafter.h"

#include <algorithm>

namespace tiercel::engine {

NgramDrafter::NgramDrafter(const DraftOptions& options, int64_t max_length) : options_(options) {
  tokens_.reserve(static_cast<size_t>(max_length));
}

void NgramDrafter::Guess(std::span<const int32_t> prompt, std::span<const int32_t> output, int64_t most,
                         std::vector<int32_t>* drafts) {
  drafts->clear();
  if (most <= 0) return;
  tokens_.assign(prompt.begin(), prompt.end());
  tokens_.insert(tokens_.end(), output.begin(), output.end());
  const int64_t next = Find(), size = std::ssize(tokens_);
  if (next < 0) return;
  for (int64_t i = next; i < next + most; ++i) {
    drafts->push_back(i < size ? tokens_[static_cast<size_t>(i)] : (*drafts)[static_cast<size_t>(i - size)]);
  }
}

// The position behind the run that was found; −1: none.
int64_t NgramDrafter::Find() const {
  const int64_t size = std::ssize(tokens_);
  const int32_t* const last = tokens_.data() + size - 1;
  int64_t longest = options_.lookup_min - 1, found = -1;
  for (const int32_t* at = last - 1; at - tokens_.data() > longest - 1; --at) {
    if (*at != *last) continue;
    const int64_t most = std::min(options_.lookup_max, at - tokens_.data() + 1);
    int64_t length = 1;
    while (length < most && at[-length] == last[-length]) ++length;
    if (length <= longest) continue;
    longest = length;
    found = at + 1 - tokens_.data();
    if (length == options_.lookup_max) break;
  }
  return found;
}

}  // namespace tiercel::engine
