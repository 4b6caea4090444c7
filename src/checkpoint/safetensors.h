// A checkpoint in safetensors files: one, or shards listed by an index.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/config.h"

namespace tiercel::checkpoint {

// `folder` holds at least one *.safetensors or an index. Maps every shard and checks its header. Read
// are the shards of model.safetensors.index.json, else model.safetensors, else the shards of the one
// other index, else every *.safetensors; of an Ascend checkpoint only the files whose names begin
// with quant_model_weight, if there are any: the float ones may lie beside them.
Expected<std::unique_ptr<Checkpoint>> OpenSafetensors(const std::string& folder, ModelConfig config,
                                                      GenerationConfig generation,
                                                      Quantization quantization = {});

}  // namespace tiercel::checkpoint
