// The tensors that a configuration asks for, and whether a checkpoint's files hold them and no others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/config.h"

namespace tiercel::checkpoint {

struct PlannedShape {
  std::string name;
  std::vector<int64_t> shape;
};

// Every tensor of a float model, under Hugging Face's names, that this head needs.
std::vector<PlannedShape> TensorsOf(const ModelConfig& config, Head head);

// Files and configuration account for each other. Refused, in one line that counts and names: tensors
// that are missing (with a hint where names begin in another way, or layers end early), and layers
// beyond those of the configuration. Other tensors that nothing reads become warnings, which are
// returned; known leftovers (rotary_emb.inv_freq) pass in silence.
Expected<std::vector<std::string>> AccountForTensors(const Checkpoint& checkpoint, Head head);

}  // namespace tiercel::checkpoint
