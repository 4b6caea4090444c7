// Random weights in the shape of a configuration (load_format "dummy"): for speed measurements
// without the files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "checkpoint/checkpoint.h"

namespace tiercel::checkpoint {

// Every tensor of the forward pass: norms are 1, biases 0, matrices uniform with a standard
// deviation of 0.02. A row depends on nothing but seed, name and number.
std::unique_ptr<Checkpoint> MakeDummyCheckpoint(ModelConfig config, GenerationConfig generation,
                                                uint64_t seed);

// The same from the config.json (and generation_config.json, if there is one) in `folder`.
Expected<std::unique_ptr<Checkpoint>> OpenDummyCheckpoint(const std::string& folder,
                                                          std::string_view hf_overrides,
                                                          uint64_t seed);

}  // namespace tiercel::checkpoint
