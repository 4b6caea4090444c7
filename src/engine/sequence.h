// What the scheduler knows of a request: its prompt, and its n samples as sequences.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/pooling.h"
#include "engine/prefix_hash.h"
#include "sampling/logits_processors.h"

namespace tiercel::engine {

struct RequestState;

enum class SequenceStatus { kWaiting, kRunning, kFinished };

// One sample of a request. Its tokens are the prompt, the known output, and the pending tokens:
// those that steps have been planned to sample and whose values have not come back yet.
struct Sequence {
  RequestState* request = nullptr;
  int index = 0;  // of the sample
  SequenceStatus status = SequenceStatus::kWaiting;
  std::vector<int32_t> output;
  int64_t num_pending = 0;  // at most one when a step is planned, but for those that guesses may give
  int64_t num_computed = 0;  // tokens that are in the cache once all planned steps have run
  int64_t num_cached_prompt = 0;  // of the prompt, found in the cache when first admitted
  int64_t num_preemptions = 0;
  std::vector<int32_t> blocks;  // while running: for all its known tokens

  // While running: its place in the arrays by slot, and the number of this stay there, which no
  // other has. Blocks are only ever appended during a stay.
  int32_t slot = -1;
  int64_t stay = 0;

  // Scheduler's own.
  int64_t num_named_blocks = 0;  // of `blocks`, those given to the prefix cache or taken from it
  std::vector<BlockHash> hashes;  // of the full blocks beyond the prompt's
  int64_t last_step = -1;         // that planned this sequence
  int64_t computed_before_last_step = 0;
  bool ever_admitted = false;
  // Guesses of the tokens after the known ones, which the planned step verifies. Cleared with the next plan.
  std::vector<int32_t> drafts;
  double draft_rate = 0;  // of guesses that were verified those that were right, lately

  // Engine's own. Shared with the plans that sample: these may outlive the request.
  std::shared_ptr<sampling::SequenceState> sampling;
  double first_scheduled_time = -1;  // not yet
  double first_token_time = 0, last_token_time = 0;

  int64_t num_prompt() const;
  int64_t num_known() const { return num_prompt() + static_cast<int64_t>(output.size()); }
  int64_t num_tokens() const { return num_known() + num_pending; }
  int32_t token(int64_t position) const;  // a known one
};

struct RequestState {
  uint64_t id = 0;  // no two requests of an engine have the same
  std::vector<int32_t> prompt;
  // One of the two; shared with the samplers' states and with the plans.
  std::shared_ptr<const sampling::SamplingParams> params;
  std::shared_ptr<const PoolingParams> pooling;
  int priority = 0;
  std::string cache_salt;
  int64_t arrival = 0;  // a number that grows from request to request
  std::vector<std::unique_ptr<Sequence>> sequences;

  // Scheduler's own.
  std::vector<Sequence*> running, waiting;  // by index; both have room for all
  std::vector<BlockHash> prompt_hashes;     // of the prompt's full blocks, as far as computed
  int64_t num_cached_tokens = -1;  // the first sample's prefix cache hit; −1: not yet known
  // The rows of the prompt's first so many tokens have been planned, where they give results.
  int64_t num_prompt_rows_planned = 0;

  int64_t max_tokens() const { return params != nullptr ? params->max_tokens : 0; }
  // Whether every token of the prompt gives a result: its log-probability, or its vector.
  bool NeedsPromptRows() const {
    return params != nullptr ? params->prompt_logprobs.has_value() : pooling->every_token();
  }
  // Whether steps are still to be planned that give results of prompt tokens but the last. Whichever
  // sample computes the prompt owes them.
  bool OwesPromptRows() const {
    return NeedsPromptRows() &&
           num_prompt_rows_planned < static_cast<int64_t>(prompt.size()) - 1;
  }
};

inline int64_t Sequence::num_prompt() const { return static_cast<int64_t>(request->prompt.size()); }
inline int32_t Sequence::token(int64_t position) const {
  const int64_t prompt = num_prompt();
  return position < prompt ? request->prompt[static_cast<size_t>(position)]
                           : output[static_cast<size_t>(position - prompt)];
}

}  // namespace tiercel::engine
