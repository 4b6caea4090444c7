// Grammars: which tokens may come next, so that a text obeys a JSON schema, a regular expression or a
// context-free grammar. Over the Rust library (text/ffi.h, crate llguidance).
//
// Grammars are untrusted. What compiling and a step may take in memory and time is bounded
// (rust/text_ffi/src/grammar.rs); beyond the bounds there is an error of that grammar alone.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

struct TiercelGrammar;
struct TiercelGrammars;
struct TiercelMatcher;

namespace tiercel::text {

// Owns what the library has made: from the moment on that it was made, whatever fails then.
struct GrammarDeleter {
  void operator()(TiercelGrammars* grammars) const;
  void operator()(TiercelGrammar* grammar) const;
  void operator()(TiercelMatcher* matcher) const;
};
template <typename T>
using GrammarHandle = std::unique_ptr<T, GrammarDeleter>;

enum class GrammarKind { kJsonSchema, kRegex, kLark };

struct GrammarSource {
  GrammarKind kind = GrammarKind::kJsonSchema;
  std::string text;  // a schema as JSON; a Rust regular expression for the whole text; llguidance's Lark

  bool operator==(const GrammarSource&) const = default;
};

// Where one text is in its grammar. Used by one thread at a time.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(GrammarHandle<TiercelMatcher> handle) : handle_(std::move(handle)) {}

  // Bit t % 32 of word t / 32: token t may come next. Behind the end only end tokens may. Fails when
  // the step takes too much; the matcher then fails always.
  Status Mask(std::span<uint32_t> words);
  // `token` was in the mask.
  Status Accept(int32_t token);
  // Nothing but an end may come.
  bool ended() const;

 private:
  GrammarHandle<TiercelMatcher> handle_;  // null: it could not be made
};

class Grammar {
 public:
  explicit Grammar(GrammarHandle<TiercelGrammar> handle) : handle_(std::move(handle)) {}

  // A matcher at the grammar's beginning. From any thread.
  std::unique_ptr<GrammarMatcher> Start() const;

 private:
  GrammarHandle<TiercelGrammar> handle_;
};

// Compiles grammars for one vocabulary and keeps the last ones. From any thread.
class GrammarCompiler {
 public:
  // `vocab_size`: of the logits. `ends`: the tokens that may follow the end of a text, the primary one
  // first. What the vocabulary needs is built with the first grammar.
  GrammarCompiler(std::shared_ptr<const Tokenizer> tokenizer, int64_t vocab_size,
                  std::vector<int32_t> ends);

  // InvalidArgument: the grammar is none, or has what is not supported, or is too complex.
  Expected<std::shared_ptr<const Grammar>> Compile(const GrammarSource& source);

 private:
  struct Kept {
    GrammarSource source;
    std::shared_ptr<const Grammar> grammar;
  };

  Expected<TiercelGrammars*> Vocabulary();
  std::shared_ptr<const Grammar> Find(const GrammarSource& source);
  void Keep(const GrammarSource& source, std::shared_ptr<const Grammar> grammar);

  const std::shared_ptr<const Tokenizer> tokenizer_;
  const int64_t vocab_size_;
  const std::vector<int32_t> ends_;
  std::mutex vocabulary_mutex_;
  GrammarHandle<TiercelGrammars> vocabulary_;
  std::mutex kept_mutex_;
  std::list<Kept> kept_;  // the last used first
};

}  // namespace tiercel::text
