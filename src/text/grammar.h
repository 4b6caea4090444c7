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
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

struct TiercelGrammar;
struct TiercelGrammars;
struct TiercelMatcher;

namespace tiercel::text {

enum class GrammarKind { kJsonSchema, kRegex, kLark };

struct GrammarSource {
  GrammarKind kind = GrammarKind::kJsonSchema;
  std::string text;  // a schema as JSON; a Rust regular expression for the whole text; llguidance's Lark

  bool operator==(const GrammarSource&) const = default;
};

// Where one text is in its grammar. Used by one thread at a time.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(TiercelMatcher* handle) : handle_(handle) {}
  ~GrammarMatcher();
  GrammarMatcher(const GrammarMatcher&) = delete;
  GrammarMatcher& operator=(const GrammarMatcher&) = delete;

  // Bit t % 32 of word t / 32: token t may come next. Behind the end only end tokens may. Fails when
  // the step takes too much; the matcher then fails always.
  Status Mask(std::span<uint32_t> words);
  // `token` was in the mask.
  Status Accept(int32_t token);
  // Nothing but an end may come.
  bool ended() const;

 private:
  TiercelMatcher* handle_;  // null: it could not be made
};

class Grammar {
 public:
  explicit Grammar(TiercelGrammar* handle) : handle_(handle) {}
  ~Grammar();
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;

  // A matcher at the grammar's beginning. From any thread.
  std::unique_ptr<GrammarMatcher> Start() const;

 private:
  TiercelGrammar* handle_;
};

// Compiles grammars for one vocabulary and keeps the last ones. From any thread.
class GrammarCompiler {
 public:
  // `vocab_size`: of the logits. `ends`: the tokens that may follow the end of a text, the primary one
  // first. What the vocabulary needs is built with the first grammar.
  GrammarCompiler(std::shared_ptr<const Tokenizer> tokenizer, int64_t vocab_size,
                  std::vector<int32_t> ends);
  ~GrammarCompiler();

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
  TiercelGrammars* vocabulary_ = nullptr;
  std::mutex kept_mutex_;
  std::list<Kept> kept_;  // the last used first
};

}  // namespace tiercel::text
