// Whether config.json says that a checkpoint's linears are stored in FP8.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace tiercel::checkpoint {

// Yes for quant_method "fp8" (Qwen's own files and their like) and for compressed-tensors' "float-quantized" of eight
// bits. What says how inputs are quantized is not looked at: they stay BF16. Weights of another type, or blocks other
// than 128 × 128, are refused in one line.
Expected<bool> IsFp8Config(std::string_view config_json, std::string_view hf_overrides, const std::string& path);

}  // namespace tiercel::checkpoint
