#include "model/packed_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/log.h"
#include "base/round_up.h"
#include "platform/file_descriptor.h"

namespace tiercel::model {
namespace {

namespace fs = std::filesystem;

// Of the file's own form, and of what the kernels expect of packed bytes: a change of either is another number.
constexpr char kMagic[8] = {'T', 'I', 'E', 'R', 'C', 'E', 'L', '1'};
constexpr size_t kPiece = size_t{32} << 20;  // of one write

struct Header {
  char magic[8];
  uint64_t key_bytes, aside_bytes, data_bytes;
  friend bool operator==(const Header& a, const Header& b) { return std::memcmp(&a, &b, sizeof(Header)) == 0; }
};
static_assert(sizeof(Header) == 32);

Header HeaderOf(const PackedFile& file, size_t data_bytes, size_t aside_bytes) {
  Header header{{}, file.key.size(), aside_bytes, data_bytes};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  return header;
}

// Of the data in the file: header, key and aside stand before it. At whole huge pages, which a kernel can map as such.
size_t DataOffset(const Header& header) {
  return RoundUp(sizeof(Header) + header.key_bytes + header.aside_bytes, platform::Buffer::kHugePage);
}

bool ReadAll(int fd, void* out, size_t bytes, size_t offset) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t count = pread(fd, static_cast<std::byte*>(out) + done, bytes - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

bool WriteAll(int fd, const void* data, size_t bytes, size_t offset) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t count =
        pwrite(fd, static_cast<const std::byte*>(data) + done, bytes - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

// Whether the open file is still the one of that name.
bool IsAt(int fd, const std::string& path) {
  struct stat open_file, named;
  return fstat(fd, &open_file) == 0 && stat(path.c_str(), &named) == 0 && open_file.st_dev == named.st_dev &&
         open_file.st_ino == named.st_ino;
}

Status WriteContents(int fd, const std::string& path, const Header& header, const PackedFile& file,
                     std::span<const std::byte> data, std::span<const std::byte> aside,
                     const std::atomic<bool>* cancelled, FunctionRef<void(int64_t)> progress) {
  const auto failed = [&] { return ResourceExhausted("{}: cannot be written: {}", path, std::strerror(errno)); };
  const size_t begin = DataOffset(header);
  if (ftruncate(fd, 0) != 0) return failed();
  // A full disk is known before much is written.
  if (const int error = posix_fallocate(fd, 0, static_cast<off_t>(begin + data.size())); error != 0) {
    errno = error;
    return failed();
  }
  if (!WriteAll(fd, &header, sizeof(header), 0) || !WriteAll(fd, file.key.data(), file.key.size(), sizeof(header)) ||
      !WriteAll(fd, aside.data(), aside.size(), sizeof(header) + file.key.size())) {
    return failed();
  }
  for (size_t done = 0; done < data.size(); done += kPiece) {
    if (cancelled != nullptr && *cancelled) return Status(StatusCode::kCancelled, "loading was cancelled");
    const size_t count = std::min(kPiece, data.size() - done);
    if (!WriteAll(fd, data.data() + done, count, begin + done)) return failed();
    progress(static_cast<int64_t>(done + count));
  }
  // The name must not be there before the bytes are.
  if (fdatasync(fd) != 0 || rename(path.c_str(), file.path.c_str()) != 0) return failed();
  return OkStatus();
}

}  // namespace

std::optional<MappedWeights> MapPackedFile(const PackedFile& file, size_t bytes, size_t aside_bytes) {
  const platform::FileDescriptor open_file(open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (open_file.fd < 0) {
    LOG_INFO("{}: {}: the weights are packed now", file.path, errno == ENOENT ? "is not there yet" : std::strerror(errno));
    return std::nullopt;
  }
  const Header expected = HeaderOf(file, bytes, aside_bytes);
  Header found;
  struct stat info;
  std::string key(file.key.size(), '\0');
  MappedWeights mapped;
  mapped.aside.resize(aside_bytes);
  if (!ReadAll(open_file.fd, &found, sizeof(found), 0) || found != expected ||
      !ReadAll(open_file.fd, key.data(), key.size(), sizeof(found)) || key != file.key ||
      !ReadAll(open_file.fd, mapped.aside.data(), aside_bytes, sizeof(found) + key.size()) ||
      fstat(open_file.fd, &info) != 0 || !S_ISREG(info.st_mode) ||
      static_cast<size_t>(info.st_size) != DataOffset(expected) + bytes) {
    LOG_INFO("{}: was packed of other files, for other options or for other CPUs, or is not whole: the weights are packed anew",
             file.path);
    return std::nullopt;
  }
  auto buffer = platform::Buffer::MapFile(open_file.fd, DataOffset(expected), bytes, file.path);
  if (!buffer) {
    LOG_WARNING("{}", buffer.error().message());
    return std::nullopt;
  }
  mapped.buffer = std::move(*buffer);
  return mapped;
}

Status WritePackedFile(const PackedFile& file, std::span<const std::byte> data, std::span<const std::byte> aside,
                       const std::atomic<bool>* cancelled, FunctionRef<void(int64_t)> progress) {
  std::error_code error;
  fs::create_directories(fs::path(file.path).parent_path(), error);  // what is wrong is said by open
  const std::string path = file.path + ".part";
  const platform::FileDescriptor part(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600));
  if (part.fd < 0) return FailedPrecondition("{}: cannot be written: {}", path, std::strerror(errno));
  // One process at a time; what an earlier one had to leave is written over.
  if (flock(part.fd, LOCK_EX | LOCK_NB) != 0 || !IsAt(part.fd, path)) {
    return FailedPrecondition("{}: another process writes it", path);
  }
  Status status = WriteContents(part.fd, path, HeaderOf(file, data.size(), aside.size()), file, data, aside, cancelled, progress);
  if (!status.ok()) unlink(path.c_str());
  return status;
}

}  // namespace tiercel::model
