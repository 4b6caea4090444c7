// A request as the engine thread holds it: the scheduler's part, its stream and its times.
#pragma once

#include <memory>
#include <vector>

#include "engine/sequence.h"
#include "engine/stream_state.h"

namespace tiercel::engine {

struct ActiveRequest {
  RequestState state;
  std::shared_ptr<StreamState> stream;  // shared with the reader's handle
  double arrival_time = 0;
  int64_t max_tokens = 0;  // of the parameters, cut to the room that the prompt leaves
  std::vector<std::vector<TokenLogprob>> prompt_logprobs;  // by prompt token, if asked for
  std::vector<std::vector<float>> pooled;  // by row, see PromptInfo
  bool info_published = false;
  bool queued = true;  // counts against the queue limits
  int num_unfinished = 0;
};

}  // namespace tiercel::engine
