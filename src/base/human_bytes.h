// Sizes as messages show them.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

namespace tiercel {

// "1.53 GB"
inline std::string HumanBytes(int64_t bytes) {
  if (bytes < 1'000'000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  if (bytes < 1'000'000'000) return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
  return fmt::format("{:.2f} GB", static_cast<double>(bytes) / 1e9);
}

}  // namespace tiercel
