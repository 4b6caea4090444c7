#include "platform/buffer.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>

#include "base/log.h"
#include "base/round_up.h"
#include "platform/cgroup.h"
#include "platform/sysfs.h"

namespace tiercel::platform {
namespace {

constexpr size_t kHugePage = Buffer::kHugePage;

// From <linux/mman.h>: log2 of the page size in the flag's upper bits.
constexpr int kMapHuge2Mb = 21 << 26;

// <linux/mman.h> of kernel 5.14; Debian 12's headers know it, older ones do not.
constexpr int kPopulateWrite = 23;

// Why a mapping of explicit huge pages cannot be trusted to be there when it is touched; OK if it can.
// The kernel has promised it the machine's pages. A control group's limit counts pages when they are
// touched: whether it leaves enough is certain only after that.
Status HoldHugePages(void* data, size_t size, const std::string& root) {
  const std::optional<int64_t> left = ReadCgroupLimits(root).huge_pages_available;
  if (!left) return {};
  if (static_cast<uint64_t>(*left) < size) {
    return ResourceExhausted("the control group's hugetlb limit leaves {} MiB of them", *left >> 20);
  }
  return Populate(data, size);
}

void* MapExplicitHugePages(size_t size, const std::string& root) {
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | kMapHuge2Mb, -1, 0);
  if (data == MAP_FAILED) return nullptr;  // not so many are reserved, which is the usual case
  if (const Status held = HoldHugePages(data, size, root); !held.ok()) {
    munmap(data, size);
    LOG_WARNING("{} MiB in transparent huge pages instead of reserved ones: {}", size >> 20,
                held.message());
    return nullptr;
  }
  return data;
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

Status Populate(void* data, size_t bytes) {
  while (madvise(data, bytes, kPopulateWrite) != 0) {
    if (errno == EINTR || errno == EAGAIN) continue;
    return ResourceExhausted("{} MiB cannot be touched: {}", bytes >> 20, std::strerror(errno));
  }
  return {};
}

Expected<Buffer> Buffer::Allocate(size_t bytes, const std::string& root) {
  if (bytes > std::numeric_limits<size_t>::max() / 4) {
    return Unexpected(ResourceExhausted("cannot allocate {} bytes", bytes));
  }
  const size_t size = std::max(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage);
  Buffer buffer;
  buffer.data_ = MapExplicitHugePages(size, root);
  if (buffer.data_ != nullptr) {
    buffer.reserved_ = true;
    buffer.name_ = NamedMemory(buffer.data_, size,
                               "a reserved huge page is refused: a limit of the control group "
                               "(hugetlb.2MB.max) is met; raise it, or reserve no huge pages "
                               "(/proc/sys/vm/nr_hugepages)");
  } else {
    buffer.data_ = MapAligned(size);
    if (buffer.data_ == nullptr) {
      return Unexpected(
          ResourceExhausted("cannot allocate {} bytes: {}", size, std::strerror(errno)));
    }
    if (madvise(buffer.data_, size, MADV_HUGEPAGE) != 0) {
      LOG_DEBUG("{} MiB in plain pages: {}", size >> 20, std::strerror(errno));
    }
  }
  buffer.size_ = buffer.in_memory_ = size;
  return buffer;
}

namespace {

// A file without a name of `size` bytes, all of them reserved. Returns its descriptor.
Expected<int> OpenNamelessFile(const std::string& folder, size_t size) {
  struct statfs info;
  if (statfs(folder.c_str(), &info) != 0) {
    return Unexpected(NotFound("{}: {}", folder, std::strerror(errno)));
  }
  if (info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC) {
    return Unexpected(InvalidArgument("{}: lies in memory, expected a folder on a disk", folder));
  }
  int file = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) {  // not every file system has nameless files
    std::string path = folder + "/tiercel-weights-XXXXXX";
    file = mkostemp(path.data(), O_CLOEXEC);
    if (file >= 0) unlink(path.c_str());
  }
  if (file < 0) {
    return Unexpected(FailedPrecondition("{}: no file can be made: {}", folder, std::strerror(errno)));
  }
  if (const int error = posix_fallocate(file, 0, static_cast<off_t>(size)); error != 0) {
    close(file);
    return Unexpected(ResourceExhausted("{}: no room for {:.1f} GB: {}", folder,
                                        static_cast<double>(size) / 1e9, std::strerror(error)));
  }
  return file;
}

// The whole pages within [data, data + bytes).
void Advise(const void* data, size_t bytes, int advice) {
  constexpr uintptr_t kPage = 4096;
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (address + kPage - 1) / kPage * kPage;
  const uintptr_t end = (address + bytes) / kPage * kPage;
  // A kernel that does not know the advice reads and drops pages as it sees fit.
  if (begin < end) (void)madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

}  // namespace

Expected<Buffer> Buffer::AllocatePartlyOnDisk(size_t bytes, size_t in_memory,
                                              const std::string& folder) {
  in_memory = in_memory / kHugePage * kHugePage;
  if (in_memory >= bytes) return Allocate(bytes);
  if (bytes > std::numeric_limits<size_t>::max() / 4) {
    return Unexpected(ResourceExhausted("cannot allocate {} bytes", bytes));
  }
  const size_t size = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  ASSIGN_OR_RETURN(const int file, OpenNamelessFile(folder, size - in_memory));
  Buffer buffer;
  buffer.data_ = MapAligned(size);
  if (buffer.data_ != nullptr) {
    buffer.size_ = size;
    buffer.in_memory_ = in_memory;
    void* const on_disk = mmap(buffer.as<std::byte>() + in_memory, size - in_memory,
                               PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    if (on_disk != MAP_FAILED) {
      if (in_memory > 0) (void)madvise(buffer.data_, in_memory, MADV_HUGEPAGE);
      buffer.name_ = NamedMemory(on_disk, size - in_memory,
                                 folder + ": the weights that lie there cannot be read or written "
                                          "any more; check the disk");
      close(file);
      return buffer;
    }
  }
  const int error = errno;
  close(file);
  return Unexpected(ResourceExhausted("cannot map {} bytes: {}", size, std::strerror(error)));
}

Expected<Buffer> Buffer::MapFile(int file, size_t offset, size_t bytes, const std::string& path) {
  Buffer buffer;
  const size_t size = RoundUp(bytes, kHugePage);
  buffer.data_ = MapAligned(size);
  if (buffer.data_ != nullptr) {
    buffer.size_ = size;
    if (mmap(buffer.data_, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, file, static_cast<off_t>(offset)) != MAP_FAILED) {
      // Where the file system can, pages that come from disk are huge ones.
      (void)madvise(buffer.data_, bytes, MADV_HUGEPAGE);
      buffer.name_ = NamedMemory(buffer.data_, bytes, path + ": the weights that lie there cannot be read any more; "
                                                             "start again: they are packed anew");
      return buffer;
    }
  }
  return Unexpected(ResourceExhausted("{}: cannot map {} bytes: {}", path, bytes, std::strerror(errno)));
}

void Buffer::Empty() {
  if (data_ == nullptr) return;
  if (reserved_ || madvise(data_, size_, MADV_DONTNEED) != 0) std::memset(data_, 0, size_);
}

void Buffer::WillNeed(const void* data, size_t bytes) { Advise(data, bytes, MADV_WILLNEED); }

void Buffer::LetGo(const void* data, size_t bytes) { Advise(data, bytes, MADV_PAGEOUT); }

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, size_);
}

size_t HugePageBytesInUse() {
  const std::string text = ReadTextFile("/proc/self/smaps_rollup").value_or("");
  int64_t kib = 0;
  for (const char* key : {"AnonHugePages:", "FilePmdMapped:", "Private_Hugetlb:", "Shared_Hugetlb:"}) {
    kib += FindIntField(text, key).value_or(0);
  }
  return static_cast<size_t>(kib) << 10;
}

}  // namespace tiercel::platform
