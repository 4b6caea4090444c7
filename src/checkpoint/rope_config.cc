#include "checkpoint/rope_config.h"

#include <cmath>

namespace tiercel::checkpoint {
namespace {

constexpr double kMaxFactor = 1e6;

// Older files say `type`. Two that differ are left, to be refused.
void UnifyTypeKey(Json& rope) {
  if (!rope.is_object() || !rope.contains("type")) return;
  if (!rope.contains("rope_type")) rope["rope_type"] = rope["type"];
  if (rope["rope_type"] == rope["type"]) rope.erase("type");
}

// What scales nothing needs no type.
bool HasOnlyBase(const Json& rope) {
  for (const auto& [name, value] : rope.items()) {
    if (name != "rope_theta" && name != "partial_rotary_factor" && !value.is_null()) return false;
  }
  return true;
}

// vLLM's words. Without its type a factor would be dropped in silence.
Status CheckType(const JsonFields& f, const Json& rope, const char* key) {
  if (f.Has("type")) {
    return f.Wrong("rope_type", fmt::format("the same as the older field type ({}), or one of the two alone", ShowJson(rope["type"])));
  }
  if (f.Has("rope_type") || (key == std::string_view("rope_parameters") && HasOnlyBase(rope))) return OkStatus();
  return f.Wrong("rope_type", fmt::format("default, linear, yarn or llama3: {} should have a 'rope_type' key", key));
}

// The object that describes the scaling, or null where there is none.
const Json* RopeObject(const JsonFields& fields, const char** key) {
  *key = "rope_scaling";
  const Json* rope = fields.Get(*key);
  if (rope == nullptr || rope->empty()) {
    *key = "rope_parameters";
    rope = fields.Get(*key);
    // One set for each kind of layer; full attention is the only kind here.
    if (rope != nullptr && rope->is_object() && rope->contains("full_attention")) {
      rope = &(*rope)["full_attention"];
    }
  }
  return rope;
}

double MScale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

// Hugging Face's _compute_yarn_parameters; `attn_factor` is vLLM's addition.
Status ReadYarn(const JsonFields& f, RopeConfig& rope) {
  RETURN_IF_ERROR(f.Double("beta_fast", 1e-6, kMaxFactor, rope.beta_fast));
  RETURN_IF_ERROR(f.Double("beta_slow", 1e-6, kMaxFactor, rope.beta_slow));
  RETURN_IF_ERROR(f.Bool("truncate", rope.truncate));
  RETURN_IF_ERROR(f.Optional("attention_factor", 1e-6, kMaxFactor, rope.attention_factor));
  if (rope.attention_factor) return OkStatus();
  double mscale = 0, mscale_all_dim = 0, attn_factor = 1;
  RETURN_IF_ERROR(f.Double("mscale", 0, kMaxFactor, mscale));
  RETURN_IF_ERROR(f.Double("mscale_all_dim", 0, kMaxFactor, mscale_all_dim));
  RETURN_IF_ERROR(f.Double("attn_factor", 1e-6, kMaxFactor, attn_factor));
  if (mscale != 0 && mscale_all_dim != 0) {
    rope.attention_factor = MScale(rope.factor, mscale) / MScale(rope.factor, mscale_all_dim);
  } else if (attn_factor != 1) {
    rope.attention_factor = MScale(rope.factor, 1) * attn_factor;
  }
  return OkStatus();
}

Status ReadScaling(const JsonFields& f, int64_t max_position, RopeConfig& rope) {
  std::string type = "default";
  RETURN_IF_ERROR(f.String("rope_type", type));
  if (type == "default") return OkStatus();
  if (type == "linear") {
    rope.type = RopeType::kLinear;
  } else if (type == "yarn") {
    rope.type = RopeType::kYarn;
  } else if (type == "llama3") {
    rope.type = RopeType::kLlama3;
  } else {
    return f.Wrong("rope_type", "one of the supported ones: default, linear, yarn, llama3");
  }
  if (!f.Has("factor")) return f.Wrong("factor", "a number of at least 1");
  RETURN_IF_ERROR(f.Double("factor", 1, kMaxFactor, rope.factor));
  if (rope.type == RopeType::kLinear) return OkStatus();
  if (rope.type == RopeType::kLlama3) {  // Hugging Face has no defaults for them
    for (const char* key : {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
      if (!f.Has(key)) return f.Wrong(key, "a number, which rope_type llama3 needs");
    }
  }
  rope.original_max_position_embeddings = max_position;
  RETURN_IF_ERROR(f.Int("original_max_position_embeddings", 1, kMaxPosition,
                        rope.original_max_position_embeddings));
  if (rope.type == RopeType::kYarn) return ReadYarn(f, rope);
  RETURN_IF_ERROR(f.Double("low_freq_factor", 1e-6, kMaxFactor, rope.low_freq_factor));
  RETURN_IF_ERROR(f.Double("high_freq_factor", 1e-6, kMaxFactor, rope.high_freq_factor));
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    return f.Wrong("high_freq_factor",
                   fmt::format("more than low_freq_factor ({})", rope.low_freq_factor));
  }
  return OkStatus();
}

}  // namespace

void MergeOverrides(Json overrides, Json& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (overrides.contains(key)) UnifyTypeKey(overrides[key]);
    if (config.contains(key)) UnifyTypeKey(config[key]);
    const bool sets_type = overrides.contains(key) && overrides[key].is_object() && overrides[key].contains("rope_type");
    if (sets_type && config.contains(key) && config[key].is_object()) config[key].erase("type");
  }
  const auto sets_object = [&](const char* key) {
    return overrides.contains(key) && overrides[key].is_object();
  };
  if (sets_object("rope_parameters") && !overrides.contains("rope_scaling")) {
    config.erase("rope_scaling");
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (sets_object(key) && overrides[key].contains("rope_theta") &&
        !overrides.contains("rope_theta")) {
      config.erase("rope_theta");
    }
  }
  if (overrides.contains("dtype")) config.erase("torch_dtype");
  if (overrides.contains("torch_dtype") && !overrides.contains("dtype")) config.erase("dtype");
  config.merge_patch(overrides);  // RFC 7396: null takes a field away
}

Expected<RopeConfig> ParseRopeConfig(const Json& config, const FieldPlaces& places,
                                     int64_t max_position_embeddings) {
  constexpr double kMinTheta = 2, kMaxTheta = 1e15;
  const JsonFields fields = FieldsOf(config, places, "");
  RopeConfig rope;
  // An override may add rope_scaling to a file whose rope_theta is in rope_parameters.
  if (const Json* newer = fields.Get("rope_parameters"); newer != nullptr && newer->is_object()) {
    const JsonFields f = FieldsOf(*newer, places, "rope_parameters");
    RETURN_IF_ERROR(f.Double("rope_theta", kMinTheta, kMaxTheta, rope.theta));
  }
  const char* key = "";
  if (const Json* object = RopeObject(fields, &key); object != nullptr) {
    if (!object->is_object()) return Unexpected(fields.Wrong(key, "an object or null"));
    Json unified = *object;
    UnifyTypeKey(unified);
    const JsonFields f = FieldsOf(unified, places, key);
    RETURN_IF_ERROR(f.Double("rope_theta", kMinTheta, kMaxTheta, rope.theta));
    double partial = 1;
    RETURN_IF_ERROR(f.Double("partial_rotary_factor", 0, 1, partial));
    if (partial != 1) return Unexpected(f.Wrong("partial_rotary_factor", "1"));
    RETURN_IF_ERROR(CheckType(f, unified, key));
    RETURN_IF_ERROR(ReadScaling(f, max_position_embeddings, rope));
  }
  RETURN_IF_ERROR(fields.Double("rope_theta", kMinTheta, kMaxTheta, rope.theta));
  double partial = 1;
  RETURN_IF_ERROR(fields.Double("partial_rotary_factor", 0, 1, partial));
  if (partial != 1) return Unexpected(fields.Wrong("partial_rotary_factor", "1"));
  return rope;
}

}  // namespace tiercel::checkpoint
