// The scales of an INT8 KV cache that a checkpoint has (C8): for each channel of keys and values.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "tensor/share.h"

namespace tiercel::checkpoint {

// [channels] each, or empty.
struct KvChannelScales {
  std::vector<float> k_scale, k_offset, v_scale, v_offset;
};

// Those of the layer whose attention's names begin with `attention` ("model.layers.0.self_attn."), of keys as they are rotated: a
// scale and an offset for each of all n channels, or one for all; of these the `channels`.
Expected<KvChannelScales> ReadKvChannelScales(const Checkpoint& checkpoint, const std::string& attention, int64_t n,
                                              Range channels);

}  // namespace tiercel::checkpoint
