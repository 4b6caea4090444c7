// Quantization: what a checkpoint says about how its linears are stored.
//
// Two formats are read here: the Ascend quantizer's, whose quant_model_description*.json names a type for
// every tensor, and compressed-tensors' INT8, which config.json describes. Those of int4_config.h and fp8_config.h are looked
// for before; everything else is refused by name. Both files are untrusted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "tensor/dtype.h"

namespace tiercel::checkpoint {

class JsonFields;

enum class QuantMethod : uint8_t { kNone, kAscend, kCompressedTensors };

// "none", "ascend", "compressed-tensors"
std::string_view Name(QuantMethod method);

// How one linear's weight and input are quantized. Symmetric INT8 weights with a scale per output
// column in every case but kFloat and those of four bits.
enum class LinearScheme : uint8_t {
  kFloat,
  kStatic,      // W8A8: one scale and offset for every input
  kDynamic,     // W8A8_DYNAMIC: a scale for each token, found as it comes
  kMix,         // W8A8_MIX: has the tensors of both
  kWeightOnly,  // W8A16: BF16 inputs
  kInt4,            // W4A8_DYNAMIC: see ascend_int4_checkpoint.h
  kInt4WeightOnly,  // W4A16: the same codes, in other places
};

constexpr bool IsInt4(LinearScheme scheme) {
  return scheme == LinearScheme::kInt4 || scheme == LinearScheme::kInt4WeightOnly;
}

class Quantization {
 public:
  // None: every linear is float.
  Quantization() = default;

  // The text of quant_model_description*.json; `path` is for messages.
  static Expected<Quantization> ParseDescription(std::string_view json, const std::string& path);
  // What config.json's quantization_config (or compression_config) says, kNone where there is none. It
  // may also hold what a description does: a type for every tensor. A format that is not read here is
  // refused in one line that names it and those that are.
  static Expected<Quantization> ParseConfig(std::string_view config_json,
                                            std::string_view hf_overrides,
                                            const std::string& path);

  // Of a checkpoint whose linears are described elsewhere (FP8, INT4), what config.json says of its KV cache alone.
  static Expected<Quantization> ParseKvCache(std::string_view config_json, std::string_view hf_overrides,
                                             const std::string& path);

  QuantMethod method() const { return method_; }
  // The file that said so, for messages.
  const std::string& path() const { return path_; }

  // The scheme of linear `name` ("model.layers.0.mlp.up_proj") whose weight is stored as `type` ("I8",
  // "BF16", or "I4" as ascend_int4_checkpoint.h shows it): refused if the two do not fit, if the description lacks the tensor, or names a type that
  // is not offered.
  Expected<LinearScheme> SchemeOf(const std::string& name, const std::string& type) const;

  // What a description says of the linear: nothing, if it has no such tensor or a type that is not offered.
  std::optional<LinearScheme> DescribedScheme(const std::string& name) const;
  // Of a description: how many inputs share a scale; 0: all of a row, or it does not say.
  int64_t group_size() const { return group_size_; }
  // Whether linears are INT8.
  bool HasInt8() const;

  // The KV cache that the checkpoint is meant for: kI8 with scales by channel (C8), kF8E4M3 (compressed-tensors'
  // kv_cache_scheme), or nothing.
  std::optional<DType> kv_cache() const { return kv_cache_; }
  // The tensors that the description names, without the "module." duplicates of old versions.
  std::vector<std::string> TensorNames() const;
  // What the files ask for beyond this, one line each, to be logged.
  const std::vector<std::string>& notices() const { return notices_; }

 private:
  Status ReadKvCacheScheme(const JsonFields& fields, const std::string& where);

  QuantMethod method_ = QuantMethod::kNone;
  std::string path_;
  std::unordered_map<std::string, std::string> types_;    // kAscend: by tensor
  int64_t group_size_ = 0;
  LinearScheme int8_scheme_ = LinearScheme::kFloat;        // kCompressedTensors: of INT8 weights
  std::optional<DType> kv_cache_;
  std::vector<std::string> notices_;
};

// The quantization of the model in `folder`, whose config.json reads `config_json`. `flag` is
// --quantization's value, empty for none: then a description file wins over config.json.
// - "ascend" and "compressed-tensors" ask for that format and fail without its file;
// - "int8" and "int4" ask for a float checkpoint, which is quantized as it is loaded;
// - "none" asks for a model that is not: weights of a block format then become BF16 (WeightOptions::keep_blocks).
Expected<Quantization> DetectQuantization(const std::string& folder, std::string_view config_json,
                                          std::string_view hf_overrides, const std::string& flag);

// Whether --quantization's value is one that is offered; the message names those that are.
Status CheckQuantizationFlag(const std::string& flag);

}  // namespace tiercel::checkpoint
