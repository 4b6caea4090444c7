// Memory for weights, KV cache and activations: zeroed, page-aligned, in huge pages if possible.
#pragma once

#include <cstddef>
#include <utility>

#include "base/status.h"

namespace tiercel::platform {

// Owns an anonymous mapping of whole 2 MiB pages: explicit huge pages if enough are reserved,
// else MADV_HUGEPAGE, else plain pages. Untouched pages cost nothing; whoever touches a page
// first places it on its NUMA node.
class Buffer {
 public:
  Buffer() = default;
  static Expected<Buffer> Allocate(size_t bytes);
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer();

  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t size() const { return size_; }

 private:
  void swap(Buffer& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  void* data_ = nullptr;
  size_t size_ = 0;  // a multiple of 2 MiB
};

// Bytes of this process that lie in huge pages (AnonHugePages + HugetlbPages of smaps_rollup).
size_t HugePageBytesInUse();

}  // namespace tiercel::platform
