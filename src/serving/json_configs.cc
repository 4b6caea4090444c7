#include "serving/json_configs.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "api/json_reader.h"
#include "model/graph_cache.h"

namespace tiercel::serving {
namespace {

using api::Json;

// A key with the kind of value that it takes.
enum class Is { kBool, kInt, kNumber, kString, kList, kObject, kAny };
struct Key {
  std::string_view name;
  Is is;
};

constexpr Key kCompilationKeys[] = {
    {"mode", Is::kAny}, {"level", Is::kInt}, {"debug_dump_path", Is::kString},
    {"cache_dir", Is::kString}, {"compile_cache_save_format", Is::kString},
    {"backend", Is::kString}, {"custom_ops", Is::kList}, {"splitting_ops", Is::kList},
    {"compile_mm_encoder", Is::kBool}, {"use_inductor", Is::kBool}, {"compile_sizes", Is::kList},
    {"compile_ranges_split_points", Is::kList}, {"inductor_compile_config", Is::kObject},
    {"inductor_passes", Is::kObject}, {"use_cudagraph", Is::kBool},
    {"cudagraph_num_of_warmups", Is::kInt}, {"cudagraph_copy_inputs", Is::kBool},
    {"cudagraph_specialize_lora", Is::kBool}, {"full_cuda_graph", Is::kBool},
    {"use_inductor_graph_partition", Is::kBool}, {"pass_config", Is::kObject},
    {"dynamic_shapes_config", Is::kObject}, {"fast_moe_cold_start", Is::kBool},
    {"local_cache_dir", Is::kString},
};

constexpr Key kPoolerKeys[] = {
    {"task", Is::kString},          {"pooling_type", Is::kString},
    {"seq_pooling_type", Is::kString}, {"tok_pooling_type", Is::kString},
    {"use_activation", Is::kBool},  {"normalize", Is::kBool},
    {"activation", Is::kBool},      {"softmax", Is::kBool},
    {"dimensions", Is::kInt},       {"enable_chunked_processing", Is::kBool},
    {"max_embed_len", Is::kInt},    {"logit_bias", Is::kNumber},
    {"logit_mean", Is::kNumber},    {"logit_sigma", Is::kNumber},
    {"step_tag_id", Is::kInt},      {"returned_token_ids", Is::kList},
};

constexpr Key kSpeculativeKeys[] = {
    {"method", Is::kString},
    {"model", Is::kString},
    {"num_speculative_tokens", Is::kInt},
    {"prompt_lookup_max", Is::kInt},
    {"prompt_lookup_min", Is::kInt},
    {"enforce_eager", Is::kBool},
    {"draft_tensor_parallel_size", Is::kInt},
    {"tensor_parallel_size", Is::kInt},
    {"quantization", Is::kString},
    {"max_model_len", Is::kInt},
    {"revision", Is::kString},
    {"code_revision", Is::kString},
    {"disable_by_batch_size", Is::kInt},
    {"disable_padded_drafter_batch", Is::kBool},
    {"use_local_argmax_reduction", Is::kBool},
    {"speculative_token_tree", Is::kString},
    {"parallel_drafting", Is::kBool},
    {"suffix_decoding_max_tree_depth", Is::kInt},
    {"suffix_decoding_max_cached_requests", Is::kInt},
    {"suffix_decoding_max_spec_factor", Is::kNumber},
    {"suffix_decoding_min_token_prob", Is::kNumber},
    {"rejection_sample_method", Is::kString},
    {"draft_sample_method", Is::kString},
    {"draft_load_config", Is::kObject},
};
constexpr std::string_view kNgramKeys[] = {"method", "model", "num_speculative_tokens", "prompt_lookup_max",
                                           "prompt_lookup_min"};

constexpr Key kStructuredOutputsKeys[] = {
    {"backend", Is::kString},
    {"disable_fallback", Is::kBool},
    {"disable_any_whitespace", Is::kBool},
    {"disable_additional_properties", Is::kBool},
    {"reasoning_parser", Is::kString},
    {"reasoning_parser_plugin", Is::kString},
    {"enable_in_reasoning", Is::kBool},
};

// Those of the Ascend plugin, and w8a8_mix and quantize_lm_head, which are ours.
constexpr Key kAdditionalKeys[] = {
    {"w8a8_mix", Is::kString}, {"quantize_lm_head", Is::kBool},
    {"xlite_graph_config", Is::kObject}, {"weight_prefetch_config", Is::kObject},
    {"finegrained_tp_config", Is::kObject}, {"ascend_compilation_config", Is::kObject},
    {"ascend_fusion_config", Is::kObject}, {"eplb_config", Is::kObject}, {"refresh", Is::kBool},
    {"dump_config_path", Is::kString}, {"enable_async_exponential", Is::kBool},
    {"enable_shared_expert_dp", Is::kBool}, {"multistream_overlap_shared_expert", Is::kBool},
    {"multistream_overlap_gate", Is::kBool}, {"recompute_scheduler_enable", Is::kBool},
    {"enable_cpu_binding", Is::kBool}, {"SLO_limits_for_dynamic_batch", Is::kInt},
    {"pa_shape_list", Is::kList}, {"enable_kv_nz", Is::kBool}, {"layer_sharding", Is::kAny},
    {"sp_threshold", Is::kInt}, {"enable_flashcomm1", Is::kBool},
    {"scheduler_config", Is::kObject}, {"ascend_scheduler_config", Is::kObject},
    {"torchair_graph_config", Is::kObject},
};
constexpr Key kWeightPrefetchKeys[] = {{"enabled", Is::kBool}, {"prefetch_ratio", Is::kObject}};
constexpr Key kAscendCompilationKeys[] = {
    {"enable_npugraph_ex", Is::kBool}, {"enable_static_kernel", Is::kBool},
    {"fuse_norm_quant", Is::kBool}, {"fuse_qknorm_rope", Is::kBool},
    {"fuse_allreduce_rms", Is::kBool}, {"fuse_muls_add", Is::kBool},
};

std::string_view NameOf(Is is) {
  switch (is) {
    case Is::kBool: return "true or false";
    case Is::kInt: return "an integer";
    case Is::kNumber: return "a number";
    case Is::kString: return "a string";
    case Is::kList: return "a list";
    case Is::kObject: return "an object";
    case Is::kAny: return "a value";
  }
  return "";
}

bool Matches(const Json& value, Is is) {
  if (value.is_null()) return true;  // None: the default
  switch (is) {
    case Is::kBool: return value.boolean() != nullptr;
    case Is::kInt: return value.integer() != nullptr;
    case Is::kNumber: return value.integer() != nullptr || value.real().has_value();
    case Is::kString: return value.string() != nullptr;
    case Is::kList: return value.array() != nullptr;
    case Is::kObject: return value.object() != nullptr;
    case Is::kAny: return true;
  }
  return false;
}

Status CheckKind(const std::string& where, const Json& value, Is is) {
  if (Matches(value, is)) return OkStatus();
  return InvalidArgument("{}: found {}, expected {}", where, value.Dump(), NameOf(is));
}

template <size_t n>
const Key* FindKey(const Key (&keys)[n], std::string_view name) {
  const Key* key =
      std::find_if(std::begin(keys), std::end(keys), [&](const Key& k) { return k.name == name; });
  return key == std::end(keys) ? nullptr : key;
}

// Every member must be known and of its kind.
template <size_t n>
Status CheckObject(const std::string& where, const Json& object, const Key (&keys)[n]) {
  if (object.object() == nullptr) return OkStatus();
  for (const Json::Member& member : *object.object()) {
    const Key* key = FindKey(keys, member.key);
    if (key == nullptr) {
      std::string known;
      for (const Key& k : keys) known += fmt::format("{}{}", known.empty() ? "" : ", ", k.name);
      return InvalidArgument("{}: unknown key '{}' (known: {})", where, member.key, known);
    }
    RETURN_IF_ERROR(CheckKind(where + "." + member.key, member.value, key->is));
  }
  return OkStatus();
}

Expected<std::vector<int64_t>> ReadInts(const std::string& where, const Json& value,
                                        int64_t smallest) {
  std::vector<int64_t> numbers;
  if (value.array() == nullptr) {
    return Unexpected(CheckKind(where, value, Is::kList));
  }
  for (const Json& item : *value.array()) {
    if (item.integer() == nullptr || *item.integer() < smallest) {
      return Unexpected(InvalidArgument("{}: found {}, expected integers of at least {}", where,
                                        item.Dump(), smallest));
    }
    numbers.push_back(*item.integer());
  }
  return numbers;
}

// A ratio that is no share switches its matrix off, as upstream does.
double ReadRatio(const std::string& where, const Json& value, std::vector<std::string>* notices) {
  const double ratio = value.integer() != nullptr ? static_cast<double>(*value.integer())
                                                  : *value.real();
  if (ratio >= 0 && ratio <= 1) return ratio;
  notices->push_back(fmt::format("{}: {} is not within [0, 1]: no prefetch", where, value.Dump()));
  return 0;
}

Expected<model::WeightPrefetch> ReadWeightPrefetch(const std::string& where, const Json& config,
                                                   std::vector<std::string>* notices) {
  model::WeightPrefetch prefetch;
  RETURN_IF_ERROR(CheckObject(where, config, kWeightPrefetchKeys));
  if (const Json* enabled = config.Find("enabled"); enabled != nullptr && !enabled->is_null()) {
    prefetch.enabled = *enabled->boolean();
  }
  const Json* ratios = config.Find("prefetch_ratio");
  if (ratios == nullptr || ratios->object() == nullptr) return prefetch;
  const struct {
    std::string_view name;
    double* ratio;
  } kMatrices[] = {{"attn.qkv", &prefetch.qkv},
                   {"attn.o", &prefetch.o},
                   {"mlp.gate_up", &prefetch.gate_up},
                   {"mlp.down", &prefetch.down}};
  for (const Json::Member& part : *ratios->object()) {
    const std::string part_name = where + ".prefetch_ratio." + part.key;
    RETURN_IF_ERROR(CheckKind(part_name, part.value, Is::kObject));
    if (part.value.is_null()) continue;
    for (const Json::Member& member : *part.value.object()) {
      const std::string name = part_name + "." + member.key;
      RETURN_IF_ERROR(CheckKind(name, member.value, Is::kNumber));
      if (member.value.is_null()) continue;
      for (const auto& matrix : kMatrices) {
        if (matrix.name == part.key + "." + member.key) {
          *matrix.ratio = ReadRatio(name, member.value, notices);
        }
      }
    }
  }
  return prefetch;
}

// fuse_norm_quant has an effect; the other fusions are always on here.
Status ReadAscendCompilation(const std::string& where, const Json& config, model::LoadOptions* load,
                             std::vector<std::string>* notices) {
  RETURN_IF_ERROR(CheckObject(where, config, kAscendCompilationKeys));
  for (const Json::Member& member : *config.object()) {
    if (member.value.is_null()) continue;
    if (member.key == "fuse_norm_quant") {
      load->graph.fuse_norm_quant = *member.value.boolean();
    } else {
      notices->push_back(fmt::format("{}.{} has no effect here", where, member.key));
    }
  }
  return OkStatus();
}

}  // namespace

Expected<model::GraphOptions> ReadCompilationConfig(const std::string& json,
                                                    std::vector<std::string>* notices) {
  const std::string flag = "--compilation-config";
  model::GraphOptions graph;
  graph.mode = model::GraphMode::kFullDecodeOnly;
  ASSIGN_OR_RETURN(const Json config, api::ParseJson(json));
  for (const Json::Member& member : *config.object()) {
    const std::string where = flag + "." + member.key;
    const Json& value = member.value;
    if (value.is_null()) continue;
    if (member.key == "cudagraph_mode") {
      RETURN_IF_ERROR(CheckKind(where, value, Is::kString));
      auto mode = model::ParseGraphMode(*value.string());
      if (!mode) return Unexpected(InvalidArgument("{}: {}", where, mode.error().message()));
      graph.mode = *mode;
      const std::string_view taken =
          graph.mode == model::GraphMode::kNone ? "NONE" : "FULL_DECODE_ONLY";
      if (!std::equal(taken.begin(), taken.end(), value.string()->begin(), value.string()->end(),
                      [](char x, char y) { return x == std::toupper(static_cast<unsigned char>(y)); })) {
        notices->push_back(fmt::format("{}: {} is {} here: a step is captured whole, and only if it "
                                       "has no prefill in it", where, *value.string(), taken));
      }
    } else if (member.key == "cudagraph_capture_sizes") {
      ASSIGN_OR_RETURN(graph.capture_sizes, ReadInts(where, value, 1));
    } else if (member.key == "max_cudagraph_capture_size") {
      RETURN_IF_ERROR(CheckKind(where, value, Is::kInt));
      graph.max_capture_size = *value.integer();
    } else if (const Key* key = FindKey(kCompilationKeys, member.key); key != nullptr) {
      RETURN_IF_ERROR(CheckKind(where, value, key->is));
      notices->push_back(where + " has no effect here: nothing is compiled at start");
    } else {
      return Unexpected(InvalidArgument("{}: unknown key '{}'", flag, member.key));
    }
  }
  return graph;
}

Status ReadAdditionalConfig(const std::string& json, model::LoadOptions* load,
                            std::vector<std::string>* notices) {
  const std::string flag = "--additional-config";
  ASSIGN_OR_RETURN(const Json config, api::ParseJson(json));
  std::optional<int64_t> threshold;  // of FlashComm, whichever comes first
  for (const Json::Member& member : *config.object()) {
    const std::string where = flag + "." + member.key;
    const Json& value = member.value;
    const Key* key = FindKey(kAdditionalKeys, member.key);
    if (key == nullptr) {
      notices->push_back(fmt::format("{}: unknown key '{}' is ignored", flag, member.key));
      continue;
    }
    RETURN_IF_ERROR(CheckKind(where, value, key->is));
    if (value.is_null()) continue;
    if (member.key == "ascend_compilation_config") {
      RETURN_IF_ERROR(ReadAscendCompilation(where, value, load, notices));
      continue;
    }
    if (member.key == "quantize_lm_head") {
      load->weights.quantize_lm_head = *value.boolean();
      continue;
    }
    if (member.key == "w8a8_mix") {
      if (*value.string() != "static" && *value.string() != "dynamic") {
        return InvalidArgument("{}: found {}, expected \"dynamic\" or \"static\"", where,
                               value.Dump());
      }
      load->weights.mix_static = *value.string() == "static";
      continue;
    }
    if (member.key == "weight_prefetch_config") {
      ASSIGN_OR_RETURN(load->prefetch, ReadWeightPrefetch(where, value, notices));
      continue;
    }
    if (member.key == "pa_shape_list") {
      ASSIGN_OR_RETURN(load->graph.pa_shape_list, ReadInts(where, value, 1));
      continue;
    }
    if (member.key == "enable_flashcomm1") {
      load->graph.flashcomm_rows = *value.boolean() ? model::kFlashCommRows : -1;
      continue;
    }
    if (member.key == "sp_threshold") {
      if (*value.integer() < 0) {
        return InvalidArgument("{}: found {}, expected at least 0", where, *value.integer());
      }
      threshold = *value.integer();
      continue;
    }
    notices->push_back(where + " has no effect yet");
  }
  if (threshold && load->graph.flashcomm_rows >= 0) {
    load->graph.flashcomm_rows = *threshold;
  } else if (threshold) {
    notices->push_back(flag + ".sp_threshold has no effect without enable_flashcomm1");
  }
  return OkStatus();
}

Status ReadStructuredOutputsConfig(const std::string& json, api::ApiOptions* options,
                                   std::string* reasoning_parser, std::vector<std::string>* notices) {
  const std::string flag = "--structured-outputs-config";
  ASSIGN_OR_RETURN(const Json config, api::ParseJson(json));
  RETURN_IF_ERROR(CheckObject(flag, config, kStructuredOutputsKeys));
  for (const Json::Member& member : *config.object()) {
    const Json& value = member.value;
    if (value.is_null()) continue;
    if (member.key == "disable_any_whitespace") {
      options->disable_any_whitespace = *value.boolean();
    } else if (member.key == "disable_additional_properties") {
      options->disable_additional_properties = *value.boolean();
    } else if (member.key == "enable_in_reasoning") {
      options->enable_in_reasoning = *value.boolean();
    } else if (member.key == "reasoning_parser") {
      *reasoning_parser = *value.string();
    } else if (member.key != "backend" || *value.string() != "auto") {
      notices->push_back(fmt::format("{}.{} has no effect here: there is one backend, llguidance", flag,
                                     member.key));
    }
  }
  return OkStatus();
}

Expected<std::optional<engine::DraftOptions>> ReadSpeculativeConfig(const std::string& json, std::string method,
                                                                    std::string model, int64_t tokens,
                                                                    std::vector<std::string>* notices) {
  const std::string flag = "--speculative-config";
  ASSIGN_OR_RETURN(const Json config, api::ParseJson(json.empty() ? "{}" : json));
  RETURN_IF_ERROR(CheckObject(flag, config, kSpeculativeKeys));
  if (config.object()->empty() && method.empty() && model.empty() && tokens == 0) return std::nullopt;
  std::optional<int64_t> min, max;
  for (const Json::Member& member : *config.object()) {
    const Json& value = member.value;
    if (value.is_null()) continue;
    if (member.key == "method" && method.empty()) method = *value.string();
    if (member.key == "model" && model.empty()) model = *value.string();
    if (member.key == "num_speculative_tokens" && tokens == 0) tokens = *value.integer();
    if (member.key == "prompt_lookup_min") min = *value.integer();
    if (member.key == "prompt_lookup_max") max = *value.integer();
  }
  if (method.empty() && (model == "ngram" || model == "[ngram]")) method = "ngram";
  if (method != "ngram" && method != "[ngram]") {
    notices->push_back(fmt::format("{}: {} makes no guesses here, \"ngram\" does; tokens are the same either way", flag,
                                   method.empty() ? fmt::format("a model of drafts ({})", model)
                                                  : fmt::format("the method \"{}\"", method)));
    return std::nullopt;
  }
  for (const Json::Member& member : *config.object()) {
    if (std::ranges::find(kNgramKeys, member.key) == std::end(kNgramKeys) && !member.value.is_null()) {
      notices->push_back(fmt::format("{}.{} has no effect here with the method \"ngram\"", flag, member.key));
    }
  }
  // vLLM's defaults.
  constexpr int64_t kRun = 5;
  engine::DraftOptions drafts;
  drafts.num_tokens = tokens;
  drafts.lookup_min = min.value_or(max.value_or(kRun));
  drafts.lookup_max = max.value_or(min.value_or(kRun));
  const auto check = [&](bool good, std::string_view key, int64_t found, const std::string& expected) {
    return good ? OkStatus() : InvalidArgument("{}.{}: found {}, expected {}", flag, key, found, expected);
  };
  RETURN_IF_ERROR(check(tokens >= 1 && tokens <= engine::kMostDraftTokens, "num_speculative_tokens", tokens,
                        fmt::format("1 to {}", engine::kMostDraftTokens)));
  RETURN_IF_ERROR(check(drafts.lookup_min >= 1, "prompt_lookup_min", drafts.lookup_min, "at least 1"));
  RETURN_IF_ERROR(check(drafts.lookup_max <= engine::kMostDraftTokens, "prompt_lookup_max", drafts.lookup_max,
                        fmt::format("at most {}", engine::kMostDraftTokens)));
  RETURN_IF_ERROR(check(drafts.lookup_min <= drafts.lookup_max, "prompt_lookup_min", drafts.lookup_min,
                        fmt::format("at most prompt_lookup_max ({})", drafts.lookup_max)));
  return drafts;
}

Expected<PoolerConfig> ReadPoolerConfig(const std::string& json, std::vector<std::string>* notices) {
  const std::string flag = "--pooler-config";
  ASSIGN_OR_RETURN(const Json config, api::ParseJson(json));
  RETURN_IF_ERROR(CheckObject(flag, config, kPoolerKeys));
  PoolerConfig pooler;
  for (const Json::Member& member : *config.object()) {
    const std::string where = flag + "." + member.key;
    const Json& value = member.value;
    if (value.is_null()) continue;
    const auto only = [&](std::string_view expected) {
      return InvalidArgument("{}: found {}, expected {}", where, value.Dump(), expected);
    };
    if (member.key == "pooling_type" || member.key == "seq_pooling_type") {
      if (*value.string() != "LAST") return Unexpected(only("\"LAST\": the last token is pooled"));
    } else if (member.key == "tok_pooling_type") {
      if (*value.string() != "ALL") return Unexpected(only("\"ALL\""));
    } else if (member.key == "use_activation" || member.key == "normalize" ||
               member.key == "activation" || member.key == "softmax") {
      pooler.use_activation = *value.boolean();
    } else if (member.key == "dimensions") {
      pooler.dimensions = *value.integer();
      if (pooler.dimensions < 1) return Unexpected(only("a number of at least 1"));
    } else if (member.key == "task") {
      notices->push_back(where + " has no effect here: a request says its task");
    } else {
      return Unexpected(InvalidArgument("{}: not supported; leave it out", where));
    }
  }
  return pooler;
}

}  // namespace tiercel::serving
