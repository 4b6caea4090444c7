#include "platform/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/file_hints.h"
#include "platform/file_descriptor.h"

namespace tiercel::platform {
namespace {

Status OpenError(const std::string& path, int error) {
  if (const std::string link = BrokenLinkHint(path); !link.empty()) {
    return InvalidArgument("{}: no such file{}", path, link);
  }
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return NotFound("{}: no such file", path);
    case EACCES:
    case EPERM:
      return FailedPrecondition(
          "{}: not readable by this user (permission denied); check the "
          "file's owner and mode",
          path);
    default:
      return FailedPrecondition("{}: cannot be opened: {}", path, std::strerror(error));
  }
}

}  // namespace

Expected<MappedFile> MappedFile::Open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const FileDescriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) return Unexpected(OpenError(path, errno));
  struct stat info;
  if (fstat(file.fd, &info) != 0) return Unexpected(OpenError(path, errno));
  if (!S_ISREG(info.st_mode)) {
    return Unexpected(InvalidArgument("{}: is not a regular file", path));
  }
  if (info.st_size == 0) {
    return Unexpected(InvalidArgument("{}: is empty (0 bytes); the download is incomplete", path));
  }
  MappedFile mapped;
  mapped.size_ = static_cast<size_t>(info.st_size);
  void* data = mmap(nullptr, mapped.size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) {
    mapped.size_ = 0;
    return Unexpected(FailedPrecondition("{}: cannot be mapped ({} bytes): {}", path, info.st_size,
                                         std::strerror(errno)));
  }
  mapped.data_ = static_cast<const uint8_t*>(data);
  mapped.path_ = path;
  mapped.name_ = NamedMemory(data, mapped.size_,
                             path + ": became shorter or unreadable while it was read; do not "
                                    "change a model's files while they are loaded");
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  std::swap(name_, other.name_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
}

namespace {

// Advice on whole pages: `outward` also takes the pages that the range only touches.
void Advise(std::span<const uint8_t> file, size_t offset, size_t length, int advice, bool outward) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  if (offset >= file.size()) return;
  const size_t end = offset + std::min(length, file.size() - offset);
  const size_t down = outward ? 0 : page - 1;
  const size_t first = (offset + down) / page * page;
  const size_t last = outward || end == file.size() ? end : end / page * page;
  // Only hints: whether they are taken makes no difference to the contents.
  if (first < last) (void)madvise(const_cast<uint8_t*>(file.data()) + first, last - first, advice);
}

}  // namespace

void MappedFile::WillNeed(size_t offset, size_t length) const {
  Advise(bytes(), offset, length, MADV_WILLNEED, /*outward=*/true);
}

void MappedFile::DontNeed(size_t offset, size_t length) const {
  Advise(bytes(), offset, length, MADV_DONTNEED, /*outward=*/false);
}

}  // namespace tiercel::platform
