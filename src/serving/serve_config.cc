#include "serving/serve_config.h"

#include <algorithm>
#include <string_view>

#include "model/kv_block.h"
#include "options/human_int.h"
#include "options/json_value.h"
#include "serving/json_configs.h"
#include "serving/parallel_config.h"
#include "serving/serve_checks.h"
#include "serving/version.h"

namespace tiercel::serving {

std::string ShortHash(std::string_view text) {
  uint32_t hash = 2166136261u;  // FNV-1a
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return fmt::format("{:08x}", hash);
}

namespace {

std::string PythonName(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '-', '_');
  return text;
}

Status FillModel(const ParsedOptions& options, ServeConfig* config) {
  config->model = options.positional().empty() ? options.String("model") : options.positional()[0];
  if (!options.positional().empty() && options.Given("model")) {
    config->warnings.push_back(
        fmt::format("--model {} gives way to the positional argument {}",
                    options.String("model"), config->model));
  }
  if (config->model.empty()) return InvalidArgument("the model's path or hub id is empty");
  config->tokenizer = options.String("tokenizer");
  config->hub.revision = options.String("revision");
  config->hub.token = options.String("hf-token");
  config->hub.download_dir = options.String("download-dir");
  config->tokenizer_revision = options.String("tokenizer-revision");
  config->tokenizer_options.split_special_tokens = options.On("split-special-tokens");
  config->hf_overrides = options.Given("hf-overrides") ? options.String("hf-overrides") : "";
  ASSIGN_OR_RETURN(config->runner, ReadRunnerFlags(options, &config->warnings));
  config->quantization = options.String("quantization");
  RETURN_IF_ERROR(checkpoint::CheckQuantizationFlag(config->quantization));
  model::WeightOptions& weights = config->load.weights;
  if (config->quantization == "int8") weights.quantize = checkpoint::QuantizeTo::kInt8;
  if (config->quantization == "int4") weights.quantize = checkpoint::QuantizeTo::kInt4;
  weights.keep_blocks = config->quantization != "none" && config->quantization != "int8";
  const std::string kv_dtype = options.String("kv-cache-dtype");
  if (kv_dtype == "int8") config->load.weights.kv_dtype = DType::kI8;
  if (kv_dtype == "fp8" || kv_dtype == "fp8_e4m3") config->load.weights.kv_dtype = DType::kF8E4M3;
  if (kv_dtype == "bfloat16") config->load.weights.kv_dtype = DType::kBF16;
  config->progress_bar = options.On("use-tqdm-on-load");
  config->chat_template = options.String("chat-template");
  config->generation = {options.String("generation-config"),
                        options.String("override-generation-config")};

  const std::string format = options.String("load-format");
  if (format == "dummy") {
    config->load_format = LoadFormat::kDummy;
  } else if (format == "safetensors") {
    config->load_format = LoadFormat::kSafetensors;
  } else if (format == "gguf") {
    config->load_format = LoadFormat::kGguf;
  } else if (format == "packed") {
    config->load_format = LoadFormat::kPacked;
  }
  const std::string dtype = options.String("dtype");
  if (dtype != "auto" && dtype != "bfloat16") {
    config->warnings.push_back("--dtype " + dtype + ": computing in bfloat16");
  }
  return OkStatus();
}

// --rope-scaling and --rope-theta of older versions are overrides of config.json today.
Status MergeOldRopeFlags(const ParsedOptions& options, ServeConfig* config) {
  std::string overrides = config->hf_overrides.empty() ? "{}" : config->hf_overrides;
  for (const auto& [flag, key] : {std::pair{"rope-scaling", "rope_scaling"},
                                  std::pair{"rope-theta", "rope_theta"}}) {
    if (!options.Given(flag)) continue;
    ASSIGN_OR_RETURN(overrides, options::SetJsonPath(overrides, key, options.String(flag), false));
    config->warnings.push_back(
        fmt::format("--{} is an old form of --hf-overrides '{{\"{}\": …}}'", flag, key));
    config->hf_overrides = overrides;
  }
  return OkStatus();
}

// A bound that argparse does not check; every size is checked again where it is used.
Status CheckAtLeast(const ParsedOptions& options, std::string_view flag, int64_t smallest) {
  if (!options.Given(flag) || options.Int(flag) >= smallest) return OkStatus();
  return InvalidArgument("argument --{}: found {}, expected at least {}", flag,
                         options.Int(flag), smallest);
}

Status FillKvCache(const ParsedOptions& options, const Environ& environ,
                   engine::EngineOptions* engine) {
  engine->gpu_memory_utilization = options.Float("gpu-memory-utilization");
  if (!(engine->gpu_memory_utilization > 0 && engine->gpu_memory_utilization <= 1)) {
    return InvalidArgument("argument --gpu-memory-utilization: found {}, expected (0, 1]",
                           options.String("gpu-memory-utilization"));
  }
  // 0 is vLLM's word for "not set".
  const double space_gib = options::EnvFloat(environ, "VLLM_CPU_KVCACHE_SPACE").value_or(0);
  if (options.Given("kv-cache-memory-bytes")) {
    engine->kv_cache_memory_bytes = options.Int("kv-cache-memory-bytes");
  } else if (space_gib > 0) {
    engine->kv_cache_memory_bytes = static_cast<int64_t>(space_gib * (1 << 30));
  }
  if (options.Given("num-gpu-blocks-override")) {
    engine->num_gpu_blocks_override = options.Int("num-gpu-blocks-override");
  }
  return OkStatus();
}

// vLLM takes blocks of 1, 8 and 16 tokens too: the next size that the kernels have serves as well.
int UsedBlockSize(int asked, ServeConfig* config) {
  constexpr int kStep = model::kKvBlockMultiple;
  const int used = (asked + kStep - 1) / kStep * kStep;
  if (used != asked) {
    config->warnings.push_back(fmt::format(
        "--block-size {}: blocks of {} tokens are used, the next multiple of {}", asked, used, kStep));
  }
  return used;
}

// What guesses the next tokens.
Status FillDrafts(const ParsedOptions& options, ServeConfig* config) {
  engine::EngineOptions& engine = config->engine;
  const int64_t tokens = options.Given("spec-tokens") ? options.Int("spec-tokens") : 0;
  ASSIGN_OR_RETURN(engine.drafts, ReadSpeculativeConfig(options.String("speculative-config"), options.String("spec-method"),
                                                        options.String("spec-model"), tokens, &config->warnings));
  if (!engine.drafts) return OkStatus();
  constexpr std::string_view kWhy = "with the method \"ngram\" of --speculative-config, whose guesses are made of known tokens";
  if (engine.async_scheduling && options.Given("async-scheduling")) {
    return InvalidArgument("argument --async-scheduling: found on, expected off {}", kWhy);
  }
  if (const int64_t stages = options.Int("pipeline-parallel-size"); stages > 1) {
    return InvalidArgument("argument --pipeline-parallel-size: found {}, expected 1 {}", stages, kWhy);
  }
  return OkStatus();
}

Status FillEngine(const ParsedOptions& options, const Environ& environ, ServeConfig* config) {
  for (const char* flag :
       {"max-num-batched-tokens", "max-num-seqs", "block-size", "kv-cache-memory-bytes",
        "num-gpu-blocks-override", "stream-interval", "pipeline-parallel-size"}) {
    RETURN_IF_ERROR(CheckAtLeast(options, flag, 1));
  }
  for (const char* flag : {"long-prefill-token-threshold", "max-num-queued-reqs",
                           "max-num-queued-tokens", "seed"}) {
    RETURN_IF_ERROR(CheckAtLeast(options, flag, 0));
  }
  RETURN_IF_ERROR(FillParallel(options, environ, config));
  engine::EngineOptions& engine = config->engine;
  if (options.Given("max-model-len")) {
    engine.fit_max_model_len = options.Int("max-model-len") == -1;
    if (!engine.fit_max_model_len) RETURN_IF_ERROR(CheckAtLeast(options, "max-model-len", 2));
    engine.max_model_len = engine.fit_max_model_len ? 0 : options.Int("max-model-len");
  }
  engine.allow_long_max_model_len = EnvIsOn(environ, "VLLM_ALLOW_LONG_MAX_MODEL_LEN");
  const int scale = options.String("performance-mode") == "throughput" ? 2 : 0;
  engine.max_num_batched_tokens = options.Given("max-num-batched-tokens")
                                      ? options.Int("max-num-batched-tokens")
                                      : 2048 * scale;
  engine.max_num_seqs =
      options.Given("max-num-seqs") ? options.Int("max-num-seqs") : 128 * scale;
  if (options.Int("block-size") > 65536) {
    return InvalidArgument("argument --block-size: found {}, expected at most 65536",
                           options.Int("block-size"));
  }
  engine.block_size = UsedBlockSize(static_cast<int>(options.Int("block-size")), config);
  RETURN_IF_ERROR(FillKvCache(options, environ, &engine));
  engine.enable_prefix_caching = options.On("enable-prefix-caching");
  engine.enable_chunked_prefill = options.On("enable-chunked-prefill");
  engine.long_prefill_token_threshold = options.Int("long-prefill-token-threshold");
  const double target_itl_ms = options.Float("target-itl-ms");
  if (!(target_itl_ms >= 0)) {
    return InvalidArgument("argument --target-itl-ms: found {}, expected at least 0",
                           options.String("target-itl-ms"));
  }
  if (target_itl_ms > 0 && !engine.enable_chunked_prefill) {
    return InvalidArgument(
        "argument --target-itl-ms: found {}, expected 0 with --no-enable-chunked-prefill: a prompt that "
        "is never cut cannot fit",
        options.String("target-itl-ms"));
  }
  engine.target_itl = 1e-3 * target_itl_ms;
  engine.scheduling_policy = options.String("scheduling-policy") == "priority"
                                 ? engine::SchedulingPolicy::kPriority
                                 : engine::SchedulingPolicy::kFcfs;
  engine.async_scheduling = options.On("async-scheduling");
  RETURN_IF_ERROR(FillDrafts(options, config));
  engine.max_num_queued_reqs = options.Int("max-num-queued-reqs");
  engine.max_num_queued_tokens = options.Int("max-num-queued-tokens");
  const std::string mode = options.String("logprobs-mode");
  engine.logprobs_mode = mode == "raw_logits"           ? engine::LogprobsMode::kRawLogits
                         : mode == "processed_logprobs" ? engine::LogprobsMode::kProcessedLogprobs
                         : mode == "processed_logits"   ? engine::LogprobsMode::kProcessedLogits
                                                        : engine::LogprobsMode::kRawLogprobs;
  engine.seed = static_cast<uint64_t>(options.Int("seed"));
  if (options.On("disable-log-stats")) engine.log_stats_interval = 0;
  return OkStatus();
}

// The variables that weight_prefetch_config has replaced: prefetch of the MLP alone, up to so many bytes.
Status FillMlpPrefetch(const Environ& environ, ServeConfig* config) {
  constexpr const char* kEnable = "VLLM_ASCEND_ENABLE_PREFETCH_MLP";
  model::WeightPrefetch prefetch = {.enabled = EnvIsOn(environ, kEnable), .qkv = 0, .o = 0};
  const std::pair<const char*, int64_t*> sizes[] = {
      {"VLLM_ASCEND_MLP_GATE_UP_PREFETCH_SIZE", &prefetch.gate_up_bytes},
      {"VLLM_ASCEND_MLP_DOWN_PREFETCH_SIZE", &prefetch.down_bytes}};
  for (const auto& [name, bytes] : sizes) {
    const auto value = options::EnvInt(environ, name);
    if (!value) continue;
    *bytes = *value;
    if (!prefetch.enabled) {
      config->warnings.push_back(
          fmt::format("{}={} has no effect here without {}=1", name, *value, kEnable));
    }
  }
  if (!prefetch.enabled) return OkStatus();
  config->load.prefetch = prefetch;
  config->warnings.push_back(fmt::format(
      "{} is deprecated: use --additional-config '{{\"weight_prefetch_config\": {{\"enabled\": "
      "true}}}}'",
      kEnable));
  return OkStatus();
}

Status FillGraph(const ParsedOptions& options, const Environ& environ, ServeConfig* config) {
  ASSIGN_OR_RETURN(config->load.graph, ReadCompilationConfig(options.String("compilation-config"),
                                                             &config->warnings));
  RETURN_IF_ERROR(FillMlpPrefetch(environ, config));
  // The older spellings; additional_config has the last word.
  for (const char* name : {"VLLM_ASCEND_ENABLE_FLASHCOMM1", "VLLM_ASCEND_ENABLE_FLASHCOMM"}) {
    if (EnvIsOn(environ, name)) config->load.graph.flashcomm_rows = model::kFlashCommRows;
  }
  RETURN_IF_ERROR(ReadAdditionalConfig(options.String("additional-config"), &config->load,
                                       &config->warnings));
  model::GraphOptions& graph = config->load.graph;
  if (constexpr const char* kName = "VLLM_ASCEND_ENABLE_MATMUL_ALLREDUCE"; EnvIsOn(environ, kName)) {
    graph.fuse_sum = model::FuseSum::kAlways;
    if (config->environment.ranks == 1) {
      config->warnings.push_back(fmt::format("{} has no effect here: one rank has nothing to add up", kName));
    }
  }
  if (graph.flashcomm_rows >= 0 && config->environment.ranks == 1) {
    config->warnings.push_back(
        "FLASHCOMM1 (VLLM_ASCEND_ENABLE_FLASHCOMM1, additional_config.enable_flashcomm1) has no effect here: "
        "one rank has nothing to communicate");
  }
  if (options.Given("cudagraph-capture-sizes")) {
    graph.capture_sizes.emplace();
    for (const std::string& text : options.Strings("cudagraph-capture-sizes")) {
      ASSIGN_OR_RETURN(const int64_t size, options::ParseInt(text));
      if (size < 1) {
        return InvalidArgument(
            "argument --cudagraph-capture-sizes: found {}, expected integers of at least 1", size);
      }
      graph.capture_sizes->push_back(size);
    }
  }
  if (options.Given("max-cudagraph-capture-size")) {
    RETURN_IF_ERROR(CheckAtLeast(options, "max-cudagraph-capture-size", 1));
    graph.max_capture_size = options.Int("max-cudagraph-capture-size");
  }
  if (options.On("enforce-eager")) graph.mode = model::GraphMode::kNone;
  return OkStatus();
}

// What identifies the configuration, for system_fingerprint.
std::string Fingerprint(const ParsedOptions& options, const std::string& arguments) {
  const std::string mode = options.String("fingerprint-mode");
  if (mode == "none") return "";
  if (mode == "custom") return options.String("fingerprint-value");
  if (mode == "hash") return ShortHash(arguments);
  return "tiercel-" TIERCEL_VERSION "-" + ShortHash(arguments);
}

// How the answer's text is told apart: thought, tool calls.
Status FillOutputParsers(const ParsedOptions& options, std::vector<std::string>* notices,
                         api::ApiOptions* api) {
  std::string reasoning;
  RETURN_IF_ERROR(ReadStructuredOutputsConfig(options.String("structured-outputs-config"), api,
                                              &reasoning, notices));
  const std::string tools = options.String("tool-call-parser");
  if (!tools.empty()) {
    const auto format = text::FindToolFormat(tools);
    if (!format) {
      return InvalidArgument("argument --tool-call-parser: invalid tool call parser: '{}'; offered: {}",
                             tools, text::ToolFormatNames());
    }
    api->tool_format = *format;
  }
  if (options.On("enable-auto-tool-choice") && tools.empty()) {
    return InvalidArgument(
        "argument --enable-auto-tool-choice: --enable-auto-tool-choice requires --tool-call-parser; "
        "Qwen3 writes the form of --tool-call-parser hermes");
  }
  api->auto_tool_choice = options.On("enable-auto-tool-choice");
  if (options.Given("reasoning-parser")) reasoning = options.String("reasoning-parser");
  if (reasoning == "qwen3") {
    api->reasoning = api::ReasoningFormat::kQwen3;
  } else if (reasoning == "deepseek_r1") {
    api->reasoning = api::ReasoningFormat::kDeepSeekR1;
  } else if (!reasoning.empty()) {
    return InvalidArgument("argument --reasoning-parser: invalid reasoning parser: '{}'; offered: "
                           "qwen3, deepseek_r1", reasoning);
  }
  return OkStatus();
}

Status FillApi(const ParsedOptions& options, const Environ& environ,
               std::vector<std::string>* notices, api::ApiOptions* api) {
  RETURN_IF_ERROR(CheckAtLeast(options, "max-logprobs", -1));
  api->max_logprobs = static_cast<int>(std::min<int64_t>(options.Int("max-logprobs"), 1 << 20));
  api->response_role = options.String("response-role");
  api->return_tokens_as_token_ids = options.On("return-tokens-as-token-ids");
  api->enable_prompt_tokens_details = options.On("enable-prompt-tokens-details");
  api->enable_force_include_usage = options.On("enable-force-include-usage");
  api->stream_interval =
      static_cast<int>(std::min<int64_t>(options.Int("stream-interval"), 1 << 20));
  if (const std::string format = options.String("chat-template-content-format"); format != "auto") {
    api->content_format =
        format == "openai" ? api::ContentFormat::kOpenAi : api::ContentFormat::kString;
  }
  api->trust_request_chat_template = options.On("trust-request-chat-template");
  api->exclude_tools_when_tool_choice_none = options.On("exclude-tools-when-tool-choice-none");
  if (options.Given("default-chat-template-kwargs")) {
    api->default_chat_template_kwargs = options.String("default-chat-template-kwargs");
  }
  RETURN_IF_ERROR(FillOutputParsers(options, notices, api));
  api->priority_scheduling = options.String("scheduling-policy") == "priority";
  const std::pair<const char*, int*> limits[] = {
      {"VLLM_MAX_N_SEQUENCES", &api->max_n},
      {"VLLM_MAX_COMPLETION_PROMPTS", &api->max_completion_prompts},
      {"VLLM_MAX_STOP_STRINGS", &api->max_stop_strings}};
  for (const auto& [name, limit] : limits) {
    if (const auto value = options::EnvInt(environ, name)) *limit = static_cast<int>(*value);
  }
  return OkStatus();
}

std::vector<std::string> SplitCommas(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Status FillServer(const ParsedOptions& options, const Environ& environ, ServeConfig* config) {
  server::ServerOptions& server = config->server;
  if (const int64_t port = options.Int("port"); port < 0 || port > 65535) {
    return InvalidArgument("argument --port: found {}, expected 0 … 65535", port);
  }
  server.host = options.String("host");
  server.port = static_cast<int>(options.Int("port"));
  server.uds = options.String("uds");
  server.early_health = options.On("early-health");
  server.served_model_names = options.Given("served-model-name")
                                  ? options.Strings("served-model-name")
                                  : std::vector<std::string>{config->model};
  server.api_keys = options.Strings("api-key");
  if (const std::string key = EnvValue(environ, "VLLM_API_KEY");
      server.api_keys.empty() && !key.empty()) {
    server.api_keys = {key};
  }
  server.root_path = options.String("root-path");
  server.ui = options.On("ui");
  server.document = !options.On("disable-fastapi-docs");
  server.allowed_origins = options.Strings("allowed-origins");
  server.allowed_methods = options.Strings("allowed-methods");
  server.allowed_headers = options.Strings("allowed-headers");
  server.allow_credentials = options.On("allow-credentials");
  server.ssl_certfile = options.String("ssl-certfile");
  server.ssl_keyfile = options.String("ssl-keyfile");
  server.ssl_ca_certs = options.String("ssl-ca-certs");
  server.ssl_ciphers = options.String("ssl-ciphers");
  server.ssl_cert_reqs = static_cast<int>(options.Int("ssl-cert-reqs"));
  server.ssl_refresh = options.On("enable-ssl-refresh");
  RETURN_IF_ERROR(CheckAtLeast(options, "h11-max-header-count", 1));
  server.max_header_count =
      static_cast<int>(std::min<int64_t>(options.Int("h11-max-header-count"), 1 << 16));
  server.sse_keep_alive_interval_s = std::max(0.0, options.Float("sse-keep-alive-interval"));

  const std::string level = options.String("uvicorn-log-level");
  server.access_log = !options.On("disable-uvicorn-access-log") &&
                      (level == "info" || level == "debug" || level == "trace");
  server.access_log_excluded_paths =
      SplitCommas(options.String("disable-access-log-for-endpoints"));
  server.log_requests = options.On("enable-log-requests");
  if (options.Given("max-log-len")) {
    server.max_log_len =
        static_cast<int>(std::clamp<int64_t>(options.Int("max-log-len"), 0, 1 << 30));
  }
  server.max_model_len = config->engine.max_model_len;
  server.num_engines = config->environment.engines;
  server.first_engine = config->engine.index;
  server.log_stats = !options.On("disable-log-stats");
  server.enable_request_id_headers = options.On("enable-request-id-headers");
  server.enable_server_load_tracking = options.On("enable-server-load-tracking");
  server.keep_responses = EnvIsOn(environ, "VLLM_ENABLE_RESPONSES_API_STORE");
  server.dev_mode = EnvIsOn(environ, "VLLM_SERVER_DEV_MODE");
  server.sleep_mode = options.On("enable-sleep-mode");
  if (server.sleep_mode && !server.dev_mode) {
    config->warnings.push_back(
        "--enable-sleep-mode has no effect: /sleep is offered with VLLM_SERVER_DEV_MODE=1");
  }
  server.tokenizer_info = options.On("enable-tokenizer-info-endpoint");
  server.version = TIERCEL_VERSION;
  server.fingerprint = Fingerprint(options, config->non_default_args);
  server.server_info_json =
      fmt::format("{{\"vllm_config\":{}}}", options::JsonQuote(config->non_default_args));
  server.cache_config_labels = {
      {"gpu_memory_utilization", options.String("gpu-memory-utilization")},
      {"cache_dtype", options.String("kv-cache-dtype")},
      {"enable_prefix_caching", options.String("enable-prefix-caching")},
      {"prefix_caching_hash_algo", options.String("prefix-caching-hash-algo")}};
  return FillApi(options, environ, &config->warnings, &server.api);
}

// {'model': '…', 'port': 8113}; keys are not shown.
std::string DescribeArguments(const ParsedOptions& options) {
  std::string text;
  if (!options.positional().empty()) {
    text += fmt::format("'model_tag': '{}'", options.positional()[0]);
  }
  for (const options::OptionSpec* spec : options.NonDefault()) {
    const bool secret = spec->name() == "api-key" || spec->name() == "hf-token";
    text += fmt::format("{}'{}': {}", text.empty() ? "" : ", ", PythonName(spec->name()),
                        secret ? "'***'" : options.Repr(*spec));
  }
  return "{" + text + "}";
}

}  // namespace

Expected<ServeConfig> MakeServeConfig(const ParsedOptions& options, const Environ& environ) {
  ServeConfig config;
  config.warnings = options.warnings();
  config.non_default_args = DescribeArguments(options);
  RETURN_IF_ERROR(CheckServeOptions(options, environ, &config.warnings));
  config.log_level = options.Given("log-level")
                         ? options::ParseLogLevel(options.String("log-level")).value_or(LogLevel::info)
                         : options::EnvLogLevel(environ);
  RETURN_IF_ERROR(FillModel(options, &config));
  RETURN_IF_ERROR(MergeOldRopeFlags(options, &config));
  RETURN_IF_ERROR(FillEngine(options, environ, &config));
  RETURN_IF_ERROR(FillGraph(options, environ, &config));
  RETURN_IF_ERROR(FillServer(options, environ, &config));
  ASSIGN_OR_RETURN(config.traces, ReadOtlpTarget(options.String("otlp-traces-endpoint"), environ,
                                                 &config.warnings));
  config.shutdown_timeout = options.Float("shutdown-timeout");
  if (config.shutdown_timeout < 0) {
    return Unexpected(InvalidArgument("argument --shutdown-timeout: found {}, expected at least 0",
                                      options.String("shutdown-timeout")));
  }
  return config;
}

}  // namespace tiercel::serving
