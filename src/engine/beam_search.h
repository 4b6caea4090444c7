// Beam search as a stream: each step asks the engine for one token of every live beam, by requests of
// their own that find what they share in the prefix cache, as in vLLM.
//
// The reader drives it: Poll takes what the beams' requests have given and submits the next ones. The
// answers, params->n of them, best first, come whole when the search has ended.
#pragma once

#include <functional>
#include <memory>

#include "base/status.h"
#include "engine/engine.h"

namespace tiercel::engine {

// `request` has been checked for the engine, whose prompt leaves room for `max_tokens`; `submit` is its
// way for ordinary requests, and must outlive the stream.
using SubmitFunction =
    std::function<Expected<std::unique_ptr<Stream>>(Request request, std::function<void()> on_news)>;
Expected<std::unique_ptr<Stream>> StartBeamSearch(Request request, int64_t max_tokens,
                                                  std::vector<int32_t> eos_token_ids,
                                                  SubmitFunction submit, std::function<void()> on_news);

}  // namespace tiercel::engine
