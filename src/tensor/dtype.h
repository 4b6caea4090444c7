// Element types of checkpoints and buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tiercel {

enum class DType : uint8_t { kF32, kF16, kBF16, kI8, kU8, kI32, kI64, kF64, kBool, kF8E4M3 };

constexpr size_t SizeOf(DType t) {
  switch (t) {
    case DType::kF64:
    case DType::kI64: return 8;
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBF16: return 2;
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
    case DType::kF8E4M3: return 1;
  }
  return 0;
}

constexpr std::string_view Name(DType t) {
  switch (t) {
    case DType::kF64: return "F64";
    case DType::kI64: return "I64";
    case DType::kF32: return "F32";
    case DType::kI32: return "I32";
    case DType::kF16: return "F16";
    case DType::kBF16: return "BF16";
    case DType::kI8: return "I8";
    case DType::kU8: return "U8";
    case DType::kBool: return "BOOL";
    case DType::kF8E4M3: return "F8_E4M3";
  }
  return "?";
}

}  // namespace tiercel
