// From a local model to all that the server needs of it.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "kernels/environment.h"
#include "model/causal_lm.h"
#include "options/env_vars.h"
#include "serving/generation_defaults.h"
#include "serving/serve_config.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tiercel::serving {

struct LoadedModel {
  Runner runner;
  std::vector<std::unique_ptr<model::CausalLm>> models;  // one for each environment, see LoadModels
  std::shared_ptr<const model::Classifier> classifier;  // of a runner that classifies, else null
  std::optional<api::PoolingInfo> pooling;              // of one that pools
  std::string tokenizer_info_json;                      // tokenizer_config.json with the chat template
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<text::TemplatePool> template_pool;
  std::shared_ptr<const text::ChatTemplate> chat_template;  // null: the model has none
  ResolvedGeneration generation;
  std::vector<int32_t> eos_token_ids;  // [0] is the primary one
};

// The model's files, as --load-format and --hf-overrides have them read. `path` is a folder or a .gguf file.
Expected<std::unique_ptr<checkpoint::Checkpoint>> OpenCheckpoint(const ServeConfig& config, const std::string& path);

// How the weights of `checkpoint` are loaded: the config's ways, within the memory that the environments, of which one is
// given, leave to them.
model::WeightOptions ResolveWeightOptions(const ServeConfig& config, const checkpoint::Checkpoint& checkpoint,
                                          const std::string& path, const Environ& environ,
                                          const kernels::Environment& environment);

// The weights alone, for a process that only computes.
Expected<std::unique_ptr<model::CausalLm>> LoadPart(const ServeConfig& config, const std::string& path,
                                                    const Environ& environ, kernels::Environment* environment);

// What turns text into tokens, without weights.
struct LoadedText {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;  // null: there is none
};

// `path` is a folder or a .gguf file.
Expected<LoadedText> LoadText(const std::string& path);

// `path` is a folder or a .gguf file. The weights are packed on the environments' teams while
// tokenizer and template are read. Once *stop is set, by whom it is given or where that failed, the
// weights are no longer waited for.
Expected<LoadedModel> LoadAll(const ServeConfig& config, const std::string& path, const Environ& environ,
                              std::span<kernels::Environment* const> environments,
                              std::atomic<bool>* stop = nullptr);

}  // namespace tiercel::serving
