// OfflineEngine: a model in this process that answers requests without a server. What Python's LLM is
// made of; its requests take the way of HTTP bodies (api/endpoints.h), so both give the same tokens and
// the same words for errors.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/endpoints.h"
#include "base/environ.h"
#include "kernels/environment.h"
#include "server/loaded_model.h"

namespace tiercel::serving {

class OfflineEngine {
 public:
  // `words` are those of `tiercel serve`; the flags of its network have no effect. `program`: the tiercel
  // program, which renders chat templates. Once *stop is set loading ends early, with kCancelled.
  static Expected<std::shared_ptr<OfflineEngine>> Load(const std::vector<std::string>& words,
                                                       const std::string& program,
                                                       const Environ& environ,
                                                       std::atomic<bool>* stop);

  engine::Engine& engine() const { return *model_->engine; }
  const api::ModelInfo& info() const { return model_->info; }
  // Of generation_config.json: they hold for requests that name no parameters at all.
  const api::SamplingDefaults& sampling_defaults() const { return model_->api.sampling_defaults; }

  // Any thread. What a server refuses is refused here.
  api::Result<api::PreparedRequest> Prepare(const api::Endpoint& endpoint, std::string_view body) const;
  // The answer of /tokenize, and the text that a conversation (its body) is rendered to.
  api::Result<std::string> Tokenize(std::string_view body) const;
  api::Result<std::string> Render(std::string_view body) const;

 private:
  OfflineEngine() = default;

  kernels::Environments environments_;
  std::shared_ptr<const server::LoadedModel> model_;  // goes first: it uses the environments
  api::ApiOptions options_;
};

}  // namespace tiercel::serving
