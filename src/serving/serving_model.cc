#include "serving/serving_model.h"

#include <new>

#include "base/log.h"
#include "serving/model_loading.h"

namespace tiercel::serving {
namespace {

Expected<server::ServingModel> LoadModelAndEngine(ServeConfig* config, const std::string& path, const Environ& environ,
                                                  const kernels::Environments& environments,
                                                  std::atomic<bool>* stop) {
  if (config->job && config->load.transport == nullptr) {
    return Unexpected(InvalidArgument(
        "found a model over {} processes (--nnodes, --distributed-executor-backend), expected one: this is for `tiercel "
        "serve`, `bench latency` and `bench throughput`", config->job->process.count));
  }
  std::vector<kernels::Environment*> each;
  for (const auto& environment : environments) each.push_back(environment.get());
  auto all = LoadAll(*config, path, environ, each, stop);
  RETURN_IF_ERROR(AgreeOnModel(*config, all ? OkStatus() : all.error(), each[0]));
  LoadedModel loaded = std::move(*all);
  if (!loaded.generation.description.empty()) {
    LOG_WARNING(
        "Default vLLM sampling parameters have been overridden by {}: `{}`. If this is not "
        "intended, please relaunch vLLM instance with `--generation-config vllm`.",
        config->generation.source == "auto" ? "the model's `generation_config.json`"
                                            : "--generation-config",
        loaded.generation.description);
  }
  server::ServingModel serving;
  serving.root = config->model;
  serving.vocab_size = loaded.models[0]->vocab_size();
  serving.tokenizer = loaded.tokenizer;
  serving.chat_template = loaded.chat_template;
  serving.template_pool = loaded.template_pool;
  serving.sampling_defaults = loaded.generation.defaults;
  serving.pooling = std::move(loaded.pooling);
  serving.tokenizer_info_json = std::move(loaded.tokenizer_info_json);
  config->engine.eos_token_ids = loaded.eos_token_ids;
  config->engine.classifier = std::move(loaded.classifier);
  ASSIGN_OR_RETURN(serving.engine, MakeEngine(config->engine, each, std::move(loaded.models)));
  return serving;
}

}  // namespace

Expected<server::ServingModel> LoadServingModel(ServeConfig* config, const std::string& path,
                                                const Environ& environ,
                                                const kernels::Environments& environments,
                                                std::atomic<bool>* stop) {
  // Buffers say themselves what does not fit; lists throw.
  try {
    return LoadModelAndEngine(config, path, environ, environments, stop);
  } catch (const std::bad_alloc&) {
    return Unexpected(ResourceExhausted(
        "{}: no memory is left for the model and its engine; lower --max-num-batched-tokens, --max-num-seqs or "
        "--max-model-len, or free some", path));
  }
}

Expected<std::unique_ptr<engine::Engine>> MakeEngine(const engine::EngineOptions& options,
                                                     std::span<kernels::Environment* const> environments,
                                                     std::vector<std::unique_ptr<model::CausalLm>> models) {
  std::vector<std::unique_ptr<engine::Engine>> engines;
  for (size_t i = 0; i < environments.size(); ++i) {
    engine::EngineOptions each = options;
    each.index += static_cast<int>(i);
    ASSIGN_OR_RETURN(auto engine,
                     engine::Engine::Create(std::move(each), environments[i], std::move(models[i])));
    engines.push_back(std::move(engine));
  }
  return engine::Engine::Group(std::move(engines));
}

}  // namespace tiercel::serving
