// The settings that vLLM takes as JSON: --compilation-config, --additional-config,
// --structured-outputs-config, --speculative-config and --pooler-config.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/options.h"
#include "base/status.h"
#include "engine/engine.h"
#include "model/load_model.h"

namespace tiercel::serving {

// Messages name flag and key, as "--compilation-config.cudagraph_mode". Unknown keys of the first
// are errors (vLLM's rule), of the second warnings. `notices` gets one line for each setting that
// is known and has no effect here.
Expected<model::GraphOptions> ReadCompilationConfig(const std::string& json,
                                                    std::vector<std::string>* notices);
// What has an effect here is read into `load`.
Status ReadAdditionalConfig(const std::string& json, model::LoadOptions* load,
                            std::vector<std::string>* notices);
// `reasoning_parser` becomes its value, which stays empty if it is not given.
Status ReadStructuredOutputsConfig(const std::string& json, api::ApiOptions* options,
                                   std::string* reasoning_parser, std::vector<std::string>* notices);

// Guesses of the method "ngram"; nullopt: none are made, as of a method that takes another model (a notice says so).
// `method`, `model` and `tokens` (0: not given) are those of --spec-method, --spec-model and --spec-tokens, which come before.
Expected<std::optional<engine::DraftOptions>> ReadSpeculativeConfig(const std::string& json, std::string method,
                                                                    std::string model, int64_t tokens,
                                                                    std::vector<std::string>* notices);

// What is made of the hidden states of a model that pools, where a request does not say.
struct PoolerConfig {
  std::optional<bool> use_activation;  // nullopt: as the model's files say
  int64_t dimensions = 0;              // of vectors; 0: all
};
Expected<PoolerConfig> ReadPoolerConfig(const std::string& json, std::vector<std::string>* notices);

}  // namespace tiercel::serving
