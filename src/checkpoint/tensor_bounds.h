// What a list of tensors may hold, whatever the format: far above any model's, far below what hurts.
#pragma once

#include <cstdint>

namespace tiercel::checkpoint {

constexpr uint64_t kMaxTensors = 1 << 18;
constexpr uint64_t kMaxName = 1 << 12;  // bytes of a tensor's or a key's name
constexpr uint64_t kMaxDimension = uint64_t{1} << 40;

}  // namespace tiercel::checkpoint
