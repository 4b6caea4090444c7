// Sampling defaults of a server, from generation_config.json and the command line.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/options.h"
#include "base/status.h"
#include "checkpoint/config.h"
#include "serving/serve_config.h"

namespace tiercel::serving {

struct ResolvedGeneration {
  api::SamplingDefaults defaults;
  std::vector<int32_t> eos_token_ids;  // generation_config's
  // The defaults as vLLM prints them: "{'temperature': 0.6, 'top_k': 20}"; empty if none is set.
  std::string description;
};

// `of_model` is what stands beside the model; used with source "auto".
Expected<ResolvedGeneration> ResolveGeneration(const GenerationDefaults& options,
                                               const checkpoint::GenerationConfig& of_model);

// Whatever ends an answer, wherever a model's files write it, each once: the tokenizer's eos first, which
// is the primary one as in vLLM, then config.json's, then generation_config.json's.
std::vector<int32_t> EosTokenIds(std::optional<int32_t> tokenizer, std::span<const int32_t> config,
                                 std::span<const int32_t> generation);

}  // namespace tiercel::serving
