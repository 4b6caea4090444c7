#include "server/byte_budget.h"

#include <algorithm>
#include <new>

namespace tiercel::server {

BudgetedText& BudgetedText::operator=(BudgetedText&& other) noexcept {
  if (this == &other) return *this;
  Clear();
  budget_ = std::move(other.budget_);
  counted_ = std::exchange(other.counted_, 0);
  text_ = std::exchange(other.text_, {});
  return *this;
}

bool BudgetedText::Append(std::string_view piece, size_t most) {
  const size_t needed = text_.size() + piece.size();
  if (needed > text_.capacity()) {
    // Doubled, so that every byte is copied a bounded number of times, but not beyond its use.
    const size_t capacity = std::max(needed, std::min(2 * text_.capacity(), most));
    const int64_t counted =
        capacity > kUncounted && budget_ != nullptr ? static_cast<int64_t>(capacity) : 0;
    if (counted > counted_ && !budget_->Take(counted - counted_)) return false;
    counted_ = std::max(counted, counted_);
    try {
      text_.reserve(capacity);
    } catch (const std::bad_alloc&) {
      return false;  // what was counted goes back with the text
    }
  }
  text_ += piece;
  return true;
}

void BudgetedText::Clear() {
  text_ = std::string();
  if (counted_ > 0) budget_->Give(counted_);
  counted_ = 0;
}

}  // namespace tiercel::server
