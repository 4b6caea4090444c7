// Owners of what crosses text/ffi.h. Only src/text/*.cc includes it.
#pragma once

#include <string>
#include <string_view>

#include "text/ffi.h"

namespace tiercel::text {

class FfiBytes {
 public:
  FfiBytes() = default;
  FfiBytes(const FfiBytes&) = delete;
  FfiBytes& operator=(const FfiBytes&) = delete;
  ~FfiBytes() { tiercel_bytes_free(bytes_); }

  TiercelBytes* out() { return &bytes_; }
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes_.data), bytes_.data != nullptr ? bytes_.size : 0};
  }
  std::string text() const { return std::string(view()); }

 private:
  TiercelBytes bytes_{};
};

inline const uint8_t* FfiData(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

}  // namespace tiercel::text
