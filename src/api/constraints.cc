#include "api/constraints.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "text/tags.h"

namespace tiercel::api {

namespace {

using sampling::TokenConstraint;

using text::kThoughtEnd;

std::vector<uint32_t> NoTokens(int64_t vocab_size) {
  return std::vector<uint32_t>(static_cast<size_t>(vocab_size + 31) / 32);
}

// Of one sample: thought, then what the grammar allows.
class ThoughtThenGrammar : public TokenConstraint {
 public:
  ThoughtThenGrammar(const ConstraintOptions& options, const std::vector<int32_t>& thought_end)
      : tokenizer_(*options.tokenizer), thought_end_(thought_end), budget_(options.thinking_budget),
        thinks_(options.thinks), mask_(NoTokens(options.vocab_size)) {
    if (options.grammar != nullptr) matcher_ = options.grammar->Start();
  }

  Expected<std::span<const uint32_t>> Allowed() override {
    if (thinks_) return AllowedThought();
    if (matcher_ == nullptr) return std::span<const uint32_t>();
    RETURN_IF_ERROR(matcher_->Mask(mask_));
    return std::span<const uint32_t>(mask_);
  }

  Status Append(int32_t token) override {
    if (thinks_) {
      AppendThought(token);
      return OkStatus();
    }
    return matcher_ != nullptr ? matcher_->Accept(token) : OkStatus();
  }

  bool ended() const override { return !thinks_ && matcher_ != nullptr && matcher_->ended(); }

 private:
  // Any token within the budget, then those of </think> in their order.
  std::span<const uint32_t> AllowedThought() {
    if (!budget_ || num_thought_ < *budget_) return {};
    const int32_t token = thought_end_[num_forced_];
    std::fill(mask_.begin(), mask_.end(), 0);
    mask_[static_cast<size_t>(token) / 32] = uint32_t{1} << (token % 32);
    return mask_;
  }

  void AppendThought(int32_t token) {
    if (budget_ && num_thought_ >= *budget_) {
      ++num_forced_;
    } else {
      ++num_thought_;
    }
    tail_ += tokenizer_.TokenBytes(token);
    thinks_ = tail_.find(kThoughtEnd) == std::string::npos;
    if (tail_.size() >= kThoughtEnd.size()) tail_.erase(0, tail_.size() - (kThoughtEnd.size() - 1));
  }

  const text::Tokenizer& tokenizer_;  // the source's, which the parameters hold
  const std::vector<int32_t>& thought_end_;
  const std::optional<int64_t> budget_;
  bool thinks_;
  int64_t num_thought_ = 0;
  size_t num_forced_ = 0;
  std::string tail_;  // of the thought: what </think> may have begun in
  std::unique_ptr<text::GrammarMatcher> matcher_;  // null: no grammar
  std::vector<uint32_t> mask_;
};

class Source : public sampling::TokenConstraintSource {
 public:
  Source(ConstraintOptions options, std::vector<int32_t> thought_end)
      : options_(std::move(options)), thought_end_(std::move(thought_end)) {}

  std::unique_ptr<TokenConstraint> Start() const override {
    return std::make_unique<ThoughtThenGrammar>(options_, thought_end_);
  }

 private:
  const ConstraintOptions options_;
  const std::vector<int32_t> thought_end_;
};

}  // namespace

Expected<std::shared_ptr<const sampling::TokenConstraintSource>> MakeConstraint(
    ConstraintOptions options) {
  if (!options.thinks) options.thinking_budget.reset();
  std::vector<int32_t> thought_end;
  if (options.thinking_budget) {
    ASSIGN_OR_RETURN(thought_end, options.tokenizer->Encode(kThoughtEnd, false));
    const bool is_whole = options.tokenizer->Decode(thought_end, false) == kThoughtEnd &&
                          std::all_of(thought_end.begin(), thought_end.end(),
                                      [&](int32_t id) { return id < options.vocab_size; });
    if (!is_whole) {
      return Unexpected(InvalidArgument("the model's vocabulary cannot write {}", kThoughtEnd));
    }
  }
  if (options.grammar == nullptr && !options.thinking_budget) return nullptr;
  return std::make_shared<const Source>(std::move(options), std::move(thought_end));
}

}  // namespace tiercel::api
