// From options, model and machine to the sizes that an engine runs with.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "engine/engine.h"
#include "model/causal_lm.h"

namespace tiercel::engine {

struct EngineConfig {
  EngineOptions options;  // every derived value filled in
  model::KvOptions kv;
  model::RunLimits limits;
  int64_t max_length = 0;  // of a sequence: min(max_model_len, tokens in the KV pool)
};

// Fills in defaults, checks flags against each other with vLLM's messages, and sizes the KV pool:
//   num_gpu_blocks_override, else kv_cache_memory_bytes, else
//   min(gpu_memory_utilization · total, available) − weights − activations, the engine's part of it,
// but never more than max_num_seqs sequences of max_model_len can use. A pool too small for one
// sequence of max_model_len is refused, unless num_gpu_blocks_override asks for it: then longer
// requests are refused one by one. With fit_max_model_len the length is lowered to the pool instead.
Expected<EngineConfig> Configure(EngineOptions options, const model::CausalLm& model,
                                 const MemoryBudget& memory);

}  // namespace tiercel::engine
