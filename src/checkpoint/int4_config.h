// Int4Config: how config.json says that a checkpoint's linears are stored in four bits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace tiercel::checkpoint {

// Eight codes lie in an INT32, the first in its lowest bits. n outputs, k inputs, G groups of inputs.
enum class Int4Layout : uint8_t {
  kGptq,        // qweight [k / 8, n]; qzeros [G, n / 8]; scales [G, n]
  kAwq,         // qweight [k, n / 8], qzeros [G, n / 8]: of eight columns in the order 0 2 4 6 1 3 5 7; scales [G, n]
  kCompressed,  // weight_packed [n, k / 8]; weight_scale [n, G]; weight_zero_point [n / 8, G] unless symmetric
};

struct Int4Config {
  Int4Layout layout = Int4Layout::kGptq;
  int64_t group = 128;      // a multiple of 32; 0: all inputs are one
  bool symmetric = true;    // kCompressed: no zero points, the code 8 is 0
  bool reordered = false;   // g_idx (compressed-tensors: weight_g_idx) [k] says which group an input is of
  int stored_zero_less = 0;  // a zero point is the stored one plus this: 1 in GPTQ's first format
};

// "gptq", "awq", "compressed-tensors"
std::string_view Name(Int4Layout layout);

// What config.json's quantization_config (or compression_config) says; nullopt where it is none of these formats.
// What is asked of one of them beyond four bits in groups of a multiple of 32 is refused in one line.
Expected<std::optional<Int4Config>> ParseInt4Config(std::string_view config_json, std::string_view hf_overrides,
                                                    const std::string& path);

}  // namespace tiercel::checkpoint
