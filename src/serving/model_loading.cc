#include "serving/model_loading.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <future>
#include <limits>

#include "api/json_reader.h"
#include "base/clock.h"
#include "base/log.h"
#include "checkpoint/dummy_checkpoint.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/tensor_reader.h"
#include "engine/engine.h"
#include "model/load_model.h"
#include "platform/buffer.h"
#include "serving/model_path.h"
#include "serving/progress_bar.h"

namespace tiercel::serving {
namespace {

namespace fs = std::filesystem;

// `gguf`: the vocabulary of the file `path`, or null for a tokenizer.json in `dir`.
Expected<std::shared_ptr<const text::Tokenizer>> LoadTokenizer(
    const std::string& dir, const checkpoint::GgufTokenizerData* gguf, const std::string& path,
    const text::TokenizerOptions& options) {
  if (gguf == nullptr) return text::Tokenizer::Load(dir, options);
  auto tokenizer = text::Tokenizer::FromGguf(*gguf, options);
  if (tokenizer) return tokenizer;
  return Unexpected(Status(tokenizer.error().code(), path + ": " + tokenizer.error().message()));
}

// What a tokenizer puts around each text must be of the model's vocabulary. Other tokens beyond it are refused where a
// prompt has them.
Status CheckTokenIds(const text::Tokenizer& tokenizer, const std::string& file, int64_t vocab_size) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> around, tokenizer.Encode("", true));
  for (const int32_t id : around) {
    if (id < vocab_size) continue;
    return InvalidArgument("{}: post_processor: found the id {} ({}), expected less than the model's vocab_size ({}); the file "
                           "belongs to another model", file, id, tokenizer.TokenString(id), vocab_size);
  }
  if (tokenizer.vocab_size() > vocab_size) {
    LOG_WARNING("{}: found ids up to {}, expected less than the model's vocab_size ({}): prompts with the tokens beyond it are "
                "refused", file, tokenizer.vocab_size() - 1, vocab_size);
  }
  return OkStatus();
}

// --chat-template: a file, or the template itself.
Expected<std::string> TemplateOfFlag(const std::string& value) {
  std::error_code error;
  if (fs::is_regular_file(value, error)) return checkpoint::ReadSmallFile(value);
  if (value.find_first_of("{}\n") != std::string::npos) return value;
  return Unexpected(NotFound(
      "The supplied chat template ({}) looks like a file path, but it cannot be opened", value));
}

Expected<std::shared_ptr<const text::ChatTemplate>> LoadTemplate(
    const ServeConfig& config, const std::string& dir, const checkpoint::GgufTokenizerData* gguf,
    const std::shared_ptr<text::TemplatePool>& pool) {
  if (!config.chat_template.empty()) {
    ASSIGN_OR_RETURN(const std::string source, TemplateOfFlag(config.chat_template));
    return text::ChatTemplate::Compile(pool, source);
  }
  if (gguf != nullptr && !gguf->chat_template.empty()) {
    return text::ChatTemplate::Compile(pool, gguf->chat_template);
  }
  const auto source = text::ChatTemplate::FindSource(dir);
  if (!source && source.error().code() != StatusCode::kNotFound) {
    return Unexpected(source.error());
  }
  if (!source) {
    LOG_WARNING("{}; chat requests will be refused (give one with --chat-template)",
                source.error().message());
    return std::shared_ptr<const text::ChatTemplate>();
  }
  return text::ChatTemplate::Compile(pool, *source);
}

// Bytes that each engine's cache takes in the end: what was asked for, as far as it can be used, or else what one
// sequence of max_model_len or 4096 tokens needs.
int64_t CacheBytes(const checkpoint::Checkpoint& checkpoint, const ServeConfig& config) {
  const checkpoint::ModelConfig& model = checkpoint.config();
  const engine::EngineOptions& options = config.engine;
  const DType dtype = config.load.weights.kv_dtype.value_or(checkpoint.quantization().kv_cache().value_or(DType::kBF16));
  const int64_t head = dtype == DType::kBF16 ? model.head_dim * static_cast<int64_t>(sizeof(BF16))
                                             : model.head_dim + static_cast<int64_t>(sizeof(float));  // and a scale
  const int64_t token = 2 * model.num_layers * model.num_kv_heads * head;
  constexpr int64_t kTokens = 4096;
  if (!options.kv_cache_memory_bytes) {
    return token * (options.max_model_len > 0 ? std::min(options.max_model_len, kTokens) : kTokens);
  }
  // Both factors may be large.
  const double useful = static_cast<double>(token) *
                        static_cast<double>(engine::MostCachedTokens(options, model.DerivedMaxModelLen()));
  const int64_t asked = *options.kv_cache_memory_bytes;
  return useful < static_cast<double>(asked) ? static_cast<int64_t>(useful) : asked;
}

// A cache that the machine can never hold is refused before the weights make room for it on disk.
Status CheckCacheExists(const checkpoint::Checkpoint& checkpoint, const ServeConfig& config,
                        const kernels::Environment& environment) {
  const int64_t total = environment.topology.memory_total;
  // Of several processes each has a part.
  if (!config.engine.kv_cache_memory_bytes || total <= 0 || config.load.weights.process.count > 1) return OkStatus();
  const int64_t cache = CacheBytes(checkpoint, config);
  if (cache <= total / environment.engines) return OkStatus();
  constexpr double kGiB = 1 << 30;
  return ResourceExhausted("kv_cache_memory_bytes asks for a KV cache of {:.2f} GiB{}. This machine or its control group "
                           "has {:.2f} GiB.",
                           static_cast<double>(cache) / kGiB,
                           environment.engines > 1 ? fmt::format(" for each of {} engines", environment.engines) : "",
                           static_cast<double>(total) / kGiB)
      .WithParam("kv_cache_memory_bytes");
}

// Bytes that each copy of the weights may take in memory: what is left by the engines' caches, the activations and
// all else.
int64_t MaxWeightBytes(const checkpoint::Checkpoint& checkpoint, const ServeConfig& config,
                       const kernels::Environment& environment) {
  const platform::Topology& topology = environment.topology;
  if (topology.memory_total <= 0) return std::numeric_limits<int64_t>::max();
  constexpr int64_t kElse = int64_t{512} << 20;
  const int64_t engine = CacheBytes(checkpoint, config) + kElse;
  return (engine::UsableMemory(config.engine, {topology.memory_total, topology.memory_available}) -
          environment.engines * engine) / environment.weight_copies;
}

// Where weights go that do not fit into memory: beside the model, or where large temporary files go.
std::vector<std::string> DiskFolders(const std::string& path, const Environ& environ) {
  if (const auto folder = environ.find("TIERCEL_OFFLOAD_FOLDER"); folder != environ.end()) {
    return {folder->second};
  }
  std::error_code error;
  const fs::path folder = fs::is_directory(path, error) ? fs::path(path) : fs::path(path).parent_path();
  return {folder.empty() ? "." : folder.string(), "/var/tmp"};
}

// In a folder of the same path as the model's; and name, size and time of change of the model's files.
model::PackedWeights PackedWeightsOf(const std::string& path, const Environ& environ) {
  const std::string given = EnvValue(environ, "TIERCEL_PACKED_FOLDER");
  std::error_code error;
  const fs::path model = fs::weakly_canonical(path, error);
  std::vector<fs::path> files;
  if (fs::is_directory(model, error)) {
    for (const fs::directory_entry& entry : fs::directory_iterator(model, error)) {
      const std::string kind = entry.path().extension();
      if (kind == ".safetensors" || kind == ".gguf" || kind == ".json") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(model);
  }
  model::PackedWeights packed;
  packed.path = (given.empty() ? CacheHome(environ) + "/tiercel/packed" : given) + model.string();
  for (const fs::path& file : files) {
    packed.model += fmt::format("{} {} {}\n", file.filename().string(), fs::file_size(file, error),
                                fs::last_write_time(file, error).time_since_epoch().count());
  }
  return packed;
}

Expected<std::shared_ptr<const model::Classifier>> LoadClassifier(
    const checkpoint::Checkpoint& checkpoint, const text::Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (const std::string& token : checkpoint.config().pooling.classifier_from_token) {
    const auto id = tokenizer.TokenToId(token);
    if (!id) {
      return Unexpected(InvalidArgument("{}: \"{}\" is no token of the tokenizer", checkpoint.PlaceOf("classifier_from_token"),
                                        token.substr(0, 64)));
    }
    ids.push_back(*id);
  }
  auto read = model::ReadClassifier(checkpoint, ids);
  if (!read) return Unexpected(checkpoint::WithPath(checkpoint, std::move(read).error()));
  model::Classifier classifier = *std::move(read);
  return std::make_shared<const model::Classifier>(std::move(classifier));
}

api::PoolingInfo DescribePooling(const Runner& runner, const checkpoint::ModelConfig& config) {
  api::PoolingInfo info;
  info.classifies = runner.task == RunnerTask::kClassify;
  info.use_activation = runner.use_activation;
  info.hidden_size = config.hidden_size;
  info.dimensions = runner.dimensions;
  info.is_matryoshka = config.pooling.is_matryoshka;
  info.matryoshka_dimensions = config.pooling.matryoshka_dimensions;
  info.labels = config.pooling.labels;
  return info;
}

// What /tokenizer_info shows, as vLLM does: the tokenizer's own configuration, and the template that is used.
std::string TokenizerInfo(const std::string& dir, const text::ChatTemplate* chat_template) {
  api::Json info{api::Json::Object()};
  if (const auto text = checkpoint::ReadSmallFile(dir + "/tokenizer_config.json")) {
    if (auto config = api::ParseJson(*text); config && config->object() != nullptr) {
      info = std::move(*config);
    }
  }
  if (chat_template != nullptr) info.Set("chat_template", api::Json(chat_template->source()));
  return info.Dump();
}

}  // namespace

Expected<std::unique_ptr<checkpoint::Checkpoint>> OpenCheckpoint(const ServeConfig& config,
                                                            const std::string& path) {
  if (config.load_format == LoadFormat::kDummy) {
    LOG_WARNING("--load-format dummy: the weights are random");
    if (!config.quantization.empty() && config.quantization != "int8" && config.quantization != "int4" &&
        config.quantization != "none") {
      return Unexpected(InvalidArgument(
          "--quantization {}: --load-format dummy has random float weights; int8 and int4 quantize them",
          config.quantization));
    }
    return checkpoint::OpenDummyCheckpoint(path, config.hf_overrides, config.engine.seed);
  }
  auto checkpoint = checkpoint::Checkpoint::Open(path, config.hf_overrides, config.quantization);
  if (!checkpoint) return checkpoint;
  const bool is_gguf = (*checkpoint)->gguf_tokenizer() != nullptr;
  if (config.load_format != LoadFormat::kAuto && config.load_format != LoadFormat::kPacked &&
      is_gguf != (config.load_format == LoadFormat::kGguf)) {
    return Unexpected(InvalidArgument("argument --load-format: {} holds {} files", path,
                                      is_gguf ? "GGUF" : "safetensors"));
  }
  return checkpoint;
}

model::WeightOptions ResolveWeightOptions(const ServeConfig& config, const checkpoint::Checkpoint& checkpoint,
                                          const std::string& path, const Environ& environ,
                                          const kernels::Environment& environment) {
  model::WeightOptions options = config.load.weights;
  options.max_bytes_in_memory = MaxWeightBytes(checkpoint, config, environment);
  options.disk_folders = DiskFolders(path, environ);
  if (config.load_format == LoadFormat::kPacked) options.packed = PackedWeightsOf(path, environ);
  return options;
}

Expected<LoadedText> LoadText(const std::string& path) {
  std::unique_ptr<checkpoint::Checkpoint> checkpoint;  // of a .gguf file
  const checkpoint::GgufTokenizerData* gguf = nullptr;
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    ASSIGN_OR_RETURN(checkpoint, checkpoint::Checkpoint::Open(path, "", ""));
    gguf = checkpoint->gguf_tokenizer();
  }
  const std::string dir = gguf == nullptr ? path : fs::path(path).parent_path().string();
  LoadedText loaded;
  ASSIGN_OR_RETURN(loaded.tokenizer, LoadTokenizer(dir, gguf, path, {}));
  const auto pool = std::make_shared<text::TemplatePool>(text::TemplatePool::Options{});
  ASSIGN_OR_RETURN(loaded.chat_template, LoadTemplate(ServeConfig{}, dir, gguf, pool));
  return loaded;
}

namespace {

Expected<std::vector<std::unique_ptr<model::CausalLm>>> LoadWeights(
    const checkpoint::Checkpoint& checkpoint, const ServeConfig& config, const Runner& runner,
    const std::string& path, const Environ& environ, const std::atomic<bool>& cancelled,
    std::span<kernels::Environment* const> environments) {
  model::LoadOptions options = config.load;
  options.weights = ResolveWeightOptions(config, checkpoint, path, environ, *environments[0]);
  options.weights.cancelled = &cancelled;
  options.weights.head =
      runner.task == RunnerTask::kGenerate ? checkpoint::Head::kLogits : checkpoint::Head::kHidden;
  ProgressBar bar("Loading weights", config.progress_bar);
  return model::LoadModels(checkpoint, options, environments,
                           [&](int64_t done, int64_t total) { bar.Update(done, total); });
}

}  // namespace

Expected<std::unique_ptr<model::CausalLm>> LoadPart(const ServeConfig& config, const std::string& path,
                                                    const Environ& environ, kernels::Environment* environment) {
  ASSIGN_OR_RETURN(const std::unique_ptr<checkpoint::Checkpoint> checkpoint, OpenCheckpoint(config, path));
  RETURN_IF_ERROR(checkpoint::CheckTensorParallelSize(checkpoint->config(), config.tensor_parallel_size));
  std::error_code error;
  ASSIGN_OR_RETURN(const Runner runner, ResolveRunner(config.runner, checkpoint->config(),
                                                      fs::is_directory(path, error) ? path : std::string()));
  const std::atomic<bool> cancelled = false;
  ASSIGN_OR_RETURN(auto models, LoadWeights(*checkpoint, config, runner, path, environ, cancelled, {&environment, 1}));
  return std::move(models[0]);
}

Expected<LoadedModel> LoadAll(const ServeConfig& config, const std::string& path, const Environ& environ,
                              std::span<kernels::Environment* const> environments,
                              std::atomic<bool>* stop) {
  const double start = SteadyClock().Now();
  ASSIGN_OR_RETURN(const std::unique_ptr<checkpoint::Checkpoint> checkpoint,
                   OpenCheckpoint(config, path));
  RETURN_IF_ERROR(
      checkpoint::CheckTensorParallelSize(checkpoint->config(), config.tensor_parallel_size));
  RETURN_IF_ERROR(
      engine::CheckOptions(config.engine, checkpoint->config().DerivedMaxModelLen()));
  RETURN_IF_ERROR(CheckCacheExists(*checkpoint, config, *environments[0]));
  LoadedModel loaded;
  ASSIGN_OR_RETURN(loaded.generation,
                   ResolveGeneration(config.generation, checkpoint->generation_config()));

  std::error_code error;
  std::string text_dir = path;
  const bool is_folder = fs::is_directory(path, error);
  ASSIGN_OR_RETURN(loaded.runner, ResolveRunner(config.runner, checkpoint->config(),
                                                is_folder ? path : std::string()));
  if (!is_folder) text_dir = fs::path(path).parent_path();
  const checkpoint::GgufTokenizerData* gguf = checkpoint->gguf_tokenizer();
  if (!config.tokenizer.empty()) {
    HubOptions hub = config.hub;
    hub.revision = config.tokenizer_revision;
    hub.with_weights = false;
    ASSIGN_OR_RETURN(text_dir, FindModel(config.tokenizer, hub, environ));
    gguf = nullptr;
  }

  std::atomic<bool> own_stop = false;
  std::atomic<bool>& cancelled = stop != nullptr ? *stop : own_stop;
  auto weights = std::async(std::launch::async, [&] {
    return LoadWeights(*checkpoint, config, loaded.runner, path, environ, cancelled, environments);
  });
  auto tokenizer = LoadTokenizer(text_dir, gguf, checkpoint->path(), config.tokenizer_options);
  if (tokenizer) {
    const std::string file = gguf != nullptr ? checkpoint->path() : text_dir + "/tokenizer.json";
    const Status fits = CheckTokenIds(**tokenizer, file, checkpoint->config().vocab_size);
    if (!fits.ok()) tokenizer = Unexpected(fits);
  }
  loaded.template_pool =
      std::make_shared<text::TemplatePool>(text::TemplatePool::Options{.executable = config.program});
  auto chat_template = LoadTemplate(config, text_dir, gguf, loaded.template_pool);
  if (!tokenizer || !chat_template) cancelled = true;  // then nobody waits for the weights
  auto models = weights.get();
  if (!tokenizer) return Unexpected(std::move(tokenizer).error());
  if (!chat_template) return Unexpected(std::move(chat_template).error());
  if (!models) return Unexpected(std::move(models).error());

  if (loaded.runner.task != RunnerTask::kGenerate) {
    loaded.pooling = DescribePooling(loaded.runner, checkpoint->config());
  }
  if (loaded.runner.task == RunnerTask::kClassify) {
    ASSIGN_OR_RETURN(loaded.classifier, LoadClassifier(*checkpoint, **tokenizer));
  }
  loaded.models = std::move(*models);
  loaded.tokenizer = std::move(*tokenizer);
  if (config.server.tokenizer_info) {
    loaded.tokenizer_info_json = TokenizerInfo(text_dir, chat_template->get());
  }
  loaded.chat_template = std::move(*chat_template);
  loaded.eos_token_ids =
      EosTokenIds(loaded.tokenizer->eos(), checkpoint->config().eos_token_ids,
                  loaded.generation.eos_token_ids);
  const int copies = environments[0]->weight_copies;
  LOG_INFO("Loaded {} ({}) in {:.2f} s: {} of weights{}, {} in huge pages",
           checkpoint->config().architecture, path, SteadyClock().Now() - start,
           HumanBytes(copies * loaded.models[0]->WeightBytes()),
           copies > 1 ? fmt::format(" in {} copies", copies)
           : environments.size() > 1 ? fmt::format(" that {} engines share", environments.size()) : "",
           HumanBytes(static_cast<int64_t>(platform::HugePageBytesInUse())));
  return loaded;
}

}  // namespace tiercel::serving
