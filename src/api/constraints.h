// Constraints of a request's samples: a grammar, which holds from the answer's beginning, and a budget of
// thought before it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "sampling/token_constraint.h"
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace tiercel::api {

struct ConstraintOptions {
  std::shared_ptr<const text::Grammar> grammar;  // null: none
  // Samples begin with thought: the grammar holds behind </think>.
  bool thinks = false;
  // Tokens of thought, after which </think> is all that may come; nullopt: any number.
  std::optional<int64_t> thinking_budget;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  int64_t vocab_size = 0;  // of the logits
};

// Null where nothing is restricted. InvalidArgument: the vocabulary cannot write </think>.
Expected<std::shared_ptr<const sampling::TokenConstraintSource>> MakeConstraint(
    ConstraintOptions options);

}  // namespace tiercel::api
