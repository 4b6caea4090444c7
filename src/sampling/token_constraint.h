// What restricts the next token of a sample beyond its parameters: a grammar, a budget of thought.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/status.h"

namespace tiercel::sampling {

// One sample's. It is moved on by the worker that samples the row, with the sequence's other sampling
// state: the engine need not know a token for the next one to be restricted.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // The tokens that may come next: bit t % 32 of word t / 32, for every token of the logits; the words
  // stay valid until the next call. No words: any may. A failure ends the request.
  virtual Expected<std::span<const uint32_t>> Allowed() = 0;
  // Takes the token that was chosen.
  virtual Status Append(int32_t token) = 0;
  // Nothing but an end token may come: what else asks for more tokens has to yield.
  virtual bool ended() const = 0;
};

// What the samples of a request start with. From any thread.
class TokenConstraintSource {
 public:
  virtual ~TokenConstraintSource() = default;
  virtual std::unique_ptr<TokenConstraint> Start() const = 0;
};

}  // namespace tiercel::sampling
