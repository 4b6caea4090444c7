// LoadedModel: an engine with all that the API needs to know of its model.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/options.h"
#include "engine/engine.h"

namespace tiercel::server {

struct ServingModel {
  std::unique_ptr<engine::Engine> engine;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;  // may be null
  std::string root;        // path or id, as given on the command line
  int64_t vocab_size = 0;  // rows of the logits
  api::SamplingDefaults sampling_defaults;  // take the place of ServerOptions::api's
  std::shared_ptr<text::TemplatePool> template_pool;  // for the templates of requests
  std::optional<api::PoolingInfo> pooling;            // of a model that gives vectors or labels
  std::string tokenizer_info_json;                    // body of /tokenizer_info; empty: {}
};

class ApiDocument;

// Shared by the requests that use it, so that their streams end before the engine.
struct LoadedModel {
  std::unique_ptr<engine::Engine> engine;
  api::ModelInfo info;
  std::string tokenizer_info_json;
  api::ApiOptions api;  // the server's, with this model's sampling defaults
  std::shared_ptr<const ApiDocument> document;  // null with --disable-fastapi-docs
};

std::shared_ptr<LoadedModel> MakeLoadedModel(ServingModel model,
                                             std::vector<std::string> served_names,
                                             const api::ApiOptions& options);

}  // namespace tiercel::server
