#include "text/grammar.h"

#include <algorithm>

#include "base/log.h"
#include "text/ffi_bytes.h"

namespace tiercel::text {

namespace {

// Compiled grammars that are kept: a server sees few schemas, many times each.
constexpr size_t kMaxKept = 32;
constexpr size_t kMaxKeptSource = size_t{64} << 10;  // larger ones are not

std::string_view NameOf(GrammarKind kind) {
  switch (kind) {
    case GrammarKind::kJsonSchema: return "json_schema";
    case GrammarKind::kRegex: return "regex";
    case GrammarKind::kLark: return "lark";
  }
  return "";
}

}  // namespace

void GrammarDeleter::operator()(TiercelGrammars* grammars) const { tiercel_grammars_free(grammars); }
void GrammarDeleter::operator()(TiercelGrammar* grammar) const { tiercel_grammar_free(grammar); }
void GrammarDeleter::operator()(TiercelMatcher* matcher) const { tiercel_matcher_free(matcher); }

Status GrammarMatcher::Mask(std::span<uint32_t> words) {
  if (handle_ == nullptr) return Internal("the grammar's matcher could not be made");
  FfiBytes error;
  if (tiercel_matcher_mask(handle_.get(), words.data(), words.size(), error.out())) return OkStatus();
  return InvalidArgument("the grammar is too complex: {}", error.view());
}

Status GrammarMatcher::Accept(int32_t token) {
  if (handle_ == nullptr) return Internal("the grammar's matcher could not be made");
  FfiBytes error;
  if (tiercel_matcher_accept(handle_.get(), token, error.out())) return OkStatus();
  return InvalidArgument("the grammar is too complex: {}", error.view());
}

bool GrammarMatcher::ended() const { return handle_ != nullptr && tiercel_matcher_ended(handle_.get()); }

std::unique_ptr<GrammarMatcher> Grammar::Start() const {
  return std::make_unique<GrammarMatcher>(
      GrammarHandle<TiercelMatcher>(tiercel_matcher_new(handle_.get())));
}

GrammarCompiler::GrammarCompiler(std::shared_ptr<const Tokenizer> tokenizer, int64_t vocab_size,
                                 std::vector<int32_t> ends)
    : tokenizer_(std::move(tokenizer)), vocab_size_(vocab_size), ends_(std::move(ends)) {}

Expected<TiercelGrammars*> GrammarCompiler::Vocabulary() {
  std::lock_guard lock(vocabulary_mutex_);
  if (vocabulary_ == nullptr) {
    FfiBytes error;
    vocabulary_.reset(tiercel_grammars_new(tokenizer_->handle(), static_cast<size_t>(vocab_size_),
                                           ends_.data(), ends_.size(), error.out()));
    if (vocabulary_ == nullptr) return Unexpected(Internal("grammars: {}", error.view()));
  }
  return vocabulary_.get();
}

std::shared_ptr<const Grammar> GrammarCompiler::Find(const GrammarSource& source) {
  std::lock_guard lock(kept_mutex_);
  const auto found = std::find_if(kept_.begin(), kept_.end(),
                                  [&](const Kept& kept) { return kept.source == source; });
  if (found == kept_.end()) return nullptr;
  kept_.splice(kept_.begin(), kept_, found);
  return found->grammar;
}

void GrammarCompiler::Keep(const GrammarSource& source, std::shared_ptr<const Grammar> grammar) {
  if (source.text.size() > kMaxKeptSource) return;
  std::lock_guard lock(kept_mutex_);
  kept_.push_front({source, std::move(grammar)});
  if (kept_.size() > kMaxKept) kept_.pop_back();
}

Expected<std::shared_ptr<const Grammar>> GrammarCompiler::Compile(const GrammarSource& source) {
  if (auto kept = Find(source)) return kept;
  ASSIGN_OR_RETURN(TiercelGrammars* const vocabulary, Vocabulary());
  const std::string_view kind = NameOf(source.kind);
  FfiBytes error;
  bool no_room = false;
  GrammarHandle<TiercelGrammar> handle(
      tiercel_grammar_compile(vocabulary, FfiData(kind), kind.size(), FfiData(source.text),
                              source.text.size(), &no_room, error.out()));
  if (no_room) {
    LOG_WARNING("grammars: {}", error.view());
    return Unexpected(ResourceExhausted("The server has no memory for this request. Try again later."));
  }
  if (handle == nullptr) return Unexpected(InvalidArgument("{}", error.view()));
  auto grammar = std::make_shared<const Grammar>(std::move(handle));
  Keep(source, grammar);
  return grammar;
}

}  // namespace tiercel::text
