// Memory for weights, KV cache and activations: zeroed, page-aligned, in huge pages if possible.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "base/status.h"
#include "platform/bus_error.h"

namespace tiercel::platform {

// Owns an anonymous mapping of whole 2 MiB pages: explicit huge pages if enough are reserved,
// else MADV_HUGEPAGE, else plain pages. Untouched pages cost nothing; whoever touches a page
// first places it on its NUMA node. Under a control group's limit on explicit huge pages the kernel
// refuses one only at its first touch, by a signal: there they are all touched when they are allocated.
class Buffer {
 public:
  static constexpr size_t kHugePage = size_t{2} << 20;

  Buffer() = default;
  // `root` prefixes /proc and /sys, for tests.
  static Expected<Buffer> Allocate(size_t bytes, const std::string& root = "");
  // The first `in_memory` bytes (rounded down to whole huge pages) as above, the rest mapped from a
  // file without a name in `folder`, which vanishes with the buffer: the kernel writes it out and
  // reads it again as memory allows. All of the file's space is reserved now. Refused where
  // `folder` lies in memory itself.
  static Expected<Buffer> AllocatePartlyOnDisk(size_t bytes, size_t in_memory,
                                               const std::string& folder);
  // Bytes [offset, offset + bytes) of the open `file`, to be read alone: its pages are the page cache's, which all
  // processes share. `offset` is a multiple of 4096; `path` is for the line of a SIGBUS.
  static Expected<Buffer> MapFile(int file, size_t offset, size_t bytes, const std::string& path);
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
  size_t in_memory() const { return in_memory_; }

  // Gives the memory of all pages back to the system: they are zero from now on, and cost nothing until
  // they are touched. Reserved huge pages stay: nothing else could use them.
  void Empty();

  // Hints for bytes of the part on disk, where whole pages are concerned: read them ahead, or let
  // memory go that will not be read for long.
  static void WillNeed(const void* data, size_t bytes);
  static void LetGo(const void* data, size_t bytes);

 private:
  void swap(Buffer& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(in_memory_, other.in_memory_);
    std::swap(reserved_, other.reserved_);
    std::swap(name_, other.name_);
  }
  void* data_ = nullptr;
  size_t size_ = 0;  // a multiple of 2 MiB
  size_t in_memory_ = 0;
  bool reserved_ = false;  // explicit huge pages
  NamedMemory name_;
};

// Touches every page of a mapping for writing. An error where that would end the process by SIGBUS,
// or where the kernel (before 5.14) cannot do it without that risk.
Status Populate(void* data, size_t bytes);

// Bytes of this process that lie in huge pages, by smaps_rollup: transparent, of files, and reserved ones.
size_t HugePageBytesInUse();

}  // namespace tiercel::platform
