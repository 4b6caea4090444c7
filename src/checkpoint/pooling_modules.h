// What a folder of Sentence Transformers says of how its hidden states become vectors.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"

namespace tiercel::checkpoint {

struct PoolingModules {
  bool normalize = false;  // vectors get the length 1
};

// modules.json and the pooling module's own config.json; nullopt where the folder has none or its
// modules do not pool. Another way of pooling than by the last token is refused by name: the mean over
// a causal model's states is another model.
Expected<std::optional<PoolingModules>> ReadPoolingModules(const std::string& folder);

}  // namespace tiercel::checkpoint
