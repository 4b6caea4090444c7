#include "platform/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/log.h"
#include "platform/sysfs.h"

namespace tiercel::platform {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// From <linux/mman.h>: log2 of the page size in the flag's upper bits.
constexpr int kMapHuge2Mb = 21 << 26;

void* MapExplicitHugePages(size_t size) {
  // The kernel takes the pages out of the reserved ones now, or refuses: a later touch cannot fail.
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | kMapHuge2Mb, -1, 0);
  return data == MAP_FAILED ? nullptr : data;
}

// An aligned mapping: one huge page too much, whose unaligned ends are given back.
void* MapAligned(size_t size) {
  void* mapped = mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(mapped);
  const uintptr_t address = reinterpret_cast<uintptr_t>(begin);
  const size_t head = (kHugePage - address % kHugePage) % kHugePage;
  if (head > 0) munmap(begin, head);
  if (head < kHugePage) munmap(begin + head + size, kHugePage - head);
  return begin + head;
}

}  // namespace

Expected<Buffer> Buffer::Allocate(size_t bytes) {
  if (bytes > std::numeric_limits<size_t>::max() / 4) {
    return Unexpected(ResourceExhausted("cannot allocate {} bytes", bytes));
  }
  const size_t size = std::max(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage);
  Buffer buffer;
  buffer.data_ = MapExplicitHugePages(size);
  if (buffer.data_ == nullptr) {
    buffer.data_ = MapAligned(size);
    if (buffer.data_ == nullptr) {
      return Unexpected(
          ResourceExhausted("cannot allocate {} bytes: {}", size, std::strerror(errno)));
    }
    if (madvise(buffer.data_, size, MADV_HUGEPAGE) != 0) {
      LOG_DEBUG("{} MiB in plain pages: {}", size >> 20, std::strerror(errno));
    }
  }
  buffer.size_ = size;
  return buffer;
}

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, size_);
}

size_t HugePageBytesInUse() {
  const std::string text = ReadTextFile("/proc/self/smaps_rollup").value_or("");
  int64_t kib = 0;
  for (const char* key : {"AnonHugePages:", "Private_Hugetlb:", "Shared_Hugetlb:"}) {
    kib += FindIntField(text, key).value_or(0);
  }
  return static_cast<size_t>(kib) << 10;
}

}  // namespace tiercel::platform
