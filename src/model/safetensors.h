// A checkpoint in safetensors files: one, or shards listed by model.safetensors.index.json.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "model/checkpoint.h"
#include "model/config.h"

namespace tiercel::model {

// `folder` holds at least one *.safetensors or the index. Maps every shard and checks its header.
Expected<std::unique_ptr<Checkpoint>> OpenSafetensors(const std::string& folder, ModelConfig config,
                                                      GenerationConfig generation);

}  // namespace tiercel::model
