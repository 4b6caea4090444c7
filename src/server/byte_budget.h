// ByteBudget: what all connections together may hold of bytes that clients have sent.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace tiercel::server {

// Thread-safe.
class ByteBudget {
 public:
  explicit ByteBudget(int64_t limit) : limit_(limit) {}

  // False, and nothing is taken, where that would go beyond the limit.
  bool Take(int64_t bytes) {
    if (used_.fetch_add(bytes) + bytes <= limit_) return true;
    Give(bytes);
    return false;
  }
  void Give(int64_t bytes) { used_.fetch_sub(bytes); }
  int64_t used() const { return used_.load(); }

 private:
  const int64_t limit_;
  std::atomic<int64_t> used_{0};
};

// A text that grows and whose memory is counted in a budget for as long as it is held. Its first
// bytes are not counted: what is small finds room whatever the others hold, and the number of
// connections bounds it.
class BudgetedText {
 public:
  static constexpr size_t kUncounted = 4096;

  BudgetedText() = default;
  // Shared: a body may be held by work that outlives the server of its connection.
  explicit BudgetedText(std::shared_ptr<ByteBudget> budget) : budget_(std::move(budget)) {}
  BudgetedText(BudgetedText&& other) noexcept { *this = std::move(other); }
  BudgetedText& operator=(BudgetedText&& other) noexcept;
  ~BudgetedText() { Clear(); }

  // False, and nothing is appended, where the budget or the machine has no memory left. `most`:
  // what the whole text can come to.
  [[nodiscard]] bool Append(std::string_view piece, size_t most);
  void Clear();  // frees the memory

  std::string_view text() const { return text_; }
  size_t size() const { return text_.size(); }

 private:
  std::shared_ptr<ByteBudget> budget_;  // null: not counted
  int64_t counted_ = 0;
  std::string text_;
};

}  // namespace tiercel::server
