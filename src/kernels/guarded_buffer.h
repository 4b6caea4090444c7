// For tests: finds reads and writes out of bounds.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace tiercel::kernels {

// Memory that ends at an unreadable page: one byte too far faults. The start is aligned to 64.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t bytes) {
    const size_t page = 4096;
    const size_t body = (bytes + page - 1) / page * page;
    mapped_ = body + page;
    base_ = static_cast<uint8_t*>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + body, page, PROT_NONE);
    data_ = base_ + body - (bytes + 63) / 64 * 64;
    // Only whole cache lines can end at the page; sizes here are multiples of 2 bytes, so the rest
    // is checked as a canary by the caller where it is written.
    if (bytes % 64 != 0) data_ = base_ + body - bytes;
  }
  ~GuardedBuffer() { munmap(base_, mapped_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  uint8_t* base_;
  uint8_t* data_;
  size_t mapped_;
};

}  // namespace tiercel::kernels
