// Models by their hub id: found in the cache or downloaded into it.
#pragma once

#include <string>

#include "base/status.h"
#include "tools/options/env_vars.h"
#include "tools/serve_config.h"

namespace tiercel::tools {

// The local folder or .gguf file of `model`: a path that exists stays as it is; anything else must
// be a hub id ("Qwen/Qwen3-0.6B", or "org/name:Q4_K_M" for one GGUF file of several) and is looked
// up at Hugging Face (HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE), or at ModelScope with
// VLLM_USE_MODELSCOPE=True. Interrupted downloads go on where they stopped; every file is checked
// against the hub's size and checksum. With the hub out of reach an earlier download is used.
// Blocks; shows progress on a terminal.
Expected<std::string> ResolveModel(const std::string& model, const HubOptions& options,
                                   const Environ& environ);

}  // namespace tiercel::tools
