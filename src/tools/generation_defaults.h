// Sampling defaults of a server, from generation_config.json and the command line.
#pragma once

#include <string>
#include <vector>

#include "api/options.h"
#include "base/status.h"
#include "model/config.h"
#include "tools/serve_config.h"

namespace tiercel::tools {

struct ResolvedGeneration {
  api::SamplingDefaults defaults;
  std::vector<int32_t> eos_token_ids;  // generation_config's
  // The defaults as vLLM prints them: "{'temperature': 0.6, 'top_k': 20}"; empty if none is set.
  std::string description;
};

// `of_model` is what stands beside the model; used with source "auto".
Expected<ResolvedGeneration> ResolveGeneration(const GenerationDefaults& options,
                                               const model::GenerationConfig& of_model);

}  // namespace tiercel::tools
