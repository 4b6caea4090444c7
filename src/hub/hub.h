// Models by their hub id: found in the cache or downloaded into it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/environ.h"
#include "base/status.h"

namespace tiercel::hub {

struct HubOptions {
  std::string revision;      // empty: main
  std::string token;         // --hf-token; empty: HF_TOKEN or the token file
  std::string download_dir;  // empty: the hub's own cache
  bool with_weights = true;  // false: tokenizer, templates and configuration are enough
};

// Bytes there of all that is downloaded. Called from several threads.
using Progress = std::function<void(int64_t done, int64_t total)>;

// The local folder or .gguf file of `model`: a path that exists stays as it is; anything else must
// be a hub id ("Qwen/Qwen3-0.6B", or "org/name:Q4_K_M" for one GGUF file of several) and is looked
// up at Hugging Face (HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE), or at ModelScope with
// VLLM_USE_MODELSCOPE=True. Interrupted downloads go on where they stopped; every file is checked
// against the hub's size and checksum. Whatever the hub answers, or if it cannot be reached, a whole
// earlier download is used, with a warning. Blocks.
Expected<std::string> ResolveModel(const std::string& model, const HubOptions& options,
                                   const Environ& environ, const Progress& progress = nullptr);

}  // namespace tiercel::hub
