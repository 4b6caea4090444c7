// The scales of an FP8 KV cache that a checkpoint has: one for a layer's keys and one for its values.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "checkpoint/checkpoint.h"

namespace tiercel::checkpoint {

struct KvTensorScales {
  float key = 1, value = 1;
};

// Those of the layer whose attention's names begin with `attention` ("model.layers.0.self_attn."), read as vLLM does:
// under any of the names that quantizers use; where only one of the two is there it is for both, where none is both are 1.
Expected<KvTensorScales> ReadKvTensorScales(const Checkpoint& checkpoint, const std::string& attention);

// Whether a tensor is such a scale.
bool IsKvTensorScale(std::string_view name);

}  // namespace tiercel::checkpoint
