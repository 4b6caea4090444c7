#include "tools/batch_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include "platform/file_descriptor.h"

namespace tiercel::tools {
namespace {

namespace fs = std::filesystem;

// Large enough for what a batch is, and what a string of it takes is there.
constexpr int64_t kMaxUploadBytes = int64_t{4} << 30;
// The same for what comes through a pipe, of which nobody knows the end.
constexpr int64_t kMaxSpooledBytes = int64_t{4} << 30;
// Linux follows as many.
constexpr int kMaxLinks = 40;

bool IsUrl(const std::string& place) {
  return place.starts_with("http://") || place.starts_with("https://");
}

std::optional<struct stat> Stat(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? std::optional(info) : std::nullopt;
}

bool IsSame(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

bool WriteAll(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t count = ::write(fd, data.data(), data.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    data.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

// The next bytes into `buffer`; 0 at the end, -1 with errno.
ssize_t ReadSome(int fd, std::vector<char>* buffer) {
  while (true) {
    const ssize_t count = ::read(fd, buffer->data(), buffer->size());
    if (count >= 0 || errno != EINTR) return count;
  }
}

// A file without a name, so that nothing of it stays whatever ends the process.
Status MakeNameless(const std::string& folder, InputFile* input) {
  std::string path = folder + "/tiercel-batch-XXXXXX";
  input->fd = ::mkostemp(path.data(), O_CLOEXEC);
  if (input->fd < 0) return FileError(path, "cannot be made");
  ::unlink(path.c_str());
  input->path = fmt::format("/proc/self/fd/{}", input->fd);
  return OkStatus();
}

Status Fetch(const BatchPlaces& places, net::HttpClient* client, const std::atomic<bool>& stop, InputFile* input) {
  RETURN_IF_ERROR(MakeNameless(places.folder, input));
  net::HttpRequestSpec request;
  request.url = places.input;
  request.stop = &stop;
  bool written = true;
  const auto response = client->Send(request, [&](std::string_view piece) {
    written = written && WriteAll(input->fd, piece);
    return written;
  });
  if (!written) return FileError(places.folder, "a file cannot be written");
  if (!response) return response.error();
  if (response->status != 200) {
    return FailedPrecondition("argument --input-file: {} answers {}", places.input, response->status);
  }
  return OkStatus();
}

// What a pipe gives can be had once, and is read several times.
Status Spool(const BatchPlaces& places, InputFile* input) {
  const platform::FileDescriptor pipe(::open(places.input.c_str(), O_RDONLY | O_CLOEXEC));
  if (pipe.fd < 0) return FileError(places.input, "cannot be read");
  RETURN_IF_ERROR(MakeNameless(places.folder, input));
  std::vector<char> buffer(size_t{1} << 16);
  int64_t bytes = 0;
  while (const ssize_t count = ReadSome(pipe.fd, &buffer)) {
    if (count < 0) return FileError(places.input, "cannot be read");
    bytes += count;
    if (bytes > kMaxSpooledBytes) {
      return InvalidArgument("argument --input-file: {}: found more than {} bytes in a pipe; give a file",
                             places.input, kMaxSpooledBytes);
    }
    if (!WriteAll(input->fd, {buffer.data(), static_cast<size_t>(count)})) {
      return FileError(places.folder, "a file cannot be written");
    }
  }
  return OkStatus();
}

// Whether it is a process's open file, such as /dev/stdout: what is behind it has a reader or a writer of its own,
// and a new file of its name would not reach them.
bool IsOpenFile(const fs::path& path) {
  std::error_code error;
  return fs::canonical(path.has_parent_path() ? path.parent_path() : ".", error).string().starts_with("/proc/");
}

// Behind all links, whether or not there is something; "" for an open file's.
Expected<std::string> BehindLinks(const std::string& output) {
  fs::path path = output;
  std::error_code error;
  for (int links = 0; links < kMaxLinks; ++links) {
    if (IsOpenFile(path)) return std::string();
    if (!fs::is_symlink(path, error)) return path.string();
    const fs::path target = fs::read_symlink(path, error);
    if (error) break;
    path = path.parent_path() / target;
  }
  return Unexpected(InvalidArgument("argument --output-file: {}: a link without an end", output));
}

bool IsStandardOutput(const std::string& path) {
  struct stat out {};
  const auto info = Stat(path);
  return info && ::fstat(STDOUT_FILENO, &out) == 0 && IsSame(*info, out);
}

Expected<OutputPlace> PlaceOf(const BatchPlaces& places) {
  const std::string& output = places.output;
  const std::string elsewhere = places.folder + "/tiercel-batch";
  if (IsUrl(output)) return OutputPlace{OutputPlace::Kind::kUrl, output, elsewhere};
  const auto info = Stat(output);
  if (info && S_ISDIR(info->st_mode)) {
    return Unexpected(InvalidArgument("argument --output-file: {}: is a folder, expected a file", output));
  }
  if (info && S_ISSOCK(info->st_mode) && !IsStandardOutput(output)) {
    return Unexpected(InvalidArgument("argument --output-file: {}: is a socket, expected a file", output));
  }
  if (info && ::access(output.c_str(), W_OK) != 0) return Unexpected(FileError(output, "cannot be written"));
  if (info && !S_ISREG(info->st_mode)) return OutputPlace{OutputPlace::Kind::kStream, output, elsewhere};
  ASSIGN_OR_RETURN(const std::string path, BehindLinks(output));
  if (path.empty()) return OutputPlace{OutputPlace::Kind::kStream, output, elsewhere};
  return OutputPlace{OutputPlace::Kind::kFile, path, path};
}

Status Upload(const std::string& path, const std::string& url, net::HttpClient* client) {
  std::error_code error;
  const auto size = static_cast<int64_t>(fs::file_size(path, error));
  if (error) return FileError(path, "cannot be read");
  if (size > kMaxUploadBytes) {
    return FailedPrecondition("{}: found {} bytes to send, at most {} are sent", url, size, kMaxUploadBytes);
  }
  net::HttpRequestSpec request;
  request.method = "PUT";
  request.url = url;
  request.headers = {{"Content-Type", "application/jsonl"}};
  request.body.resize(static_cast<size_t>(size));
  std::ifstream file(path, std::ios::binary);
  if (!file.read(request.body.data(), size)) return FileError(path, "cannot be read");
  const auto response = client->Send(request);
  if (!response) return Status(response.error().code(), fmt::format("{}: {}", url, response.error().message()));
  if (response->status < 200 || response->status >= 300) {
    return FailedPrecondition("{}: answers {}", url, response->status);
  }
  return OkStatus();
}

// Behind what is there: a shell's >> means it, and devices and pipes know no other way.
Status CopyInto(const std::string& path, const std::string& stream) {
  // A socket that is standard output cannot be opened by its name.
  const platform::FileDescriptor to(IsStandardOutput(stream)
                                        ? ::dup(STDOUT_FILENO)
                                        : ::open(stream.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY));
  if (to.fd < 0) return FileError(stream, "cannot be written");
  const platform::FileDescriptor from(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (from.fd < 0) return FileError(path, "cannot be read");
  std::vector<char> buffer(size_t{1} << 16);
  while (const ssize_t count = ReadSome(from.fd, &buffer)) {
    if (count < 0) return FileError(path, "cannot be read");
    if (!WriteAll(to.fd, {buffer.data(), static_cast<size_t>(count)})) return FileError(stream, "cannot be written");
  }
  return OkStatus();
}

}  // namespace

Status FileError(const std::string& path, std::string_view what) {
  return FailedPrecondition("{}: {}: {}", path, what, std::strerror(errno));
}

InputFile::~InputFile() {
  if (fd >= 0) ::close(fd);
}

Status TakeInput(const BatchPlaces& places, net::HttpClient* client, const std::atomic<bool>& stop, InputFile* input) {
  input->name = places.input;
  if (IsUrl(places.input)) return Fetch(places, client, stop, input);
  const auto info = Stat(places.input);
  if (!info) return NotFound("argument --input-file: {}: no such file", places.input);
  if (S_ISFIFO(info->st_mode)) return Spool(places, input);
  if (!S_ISREG(info->st_mode)) {
    return InvalidArgument("argument --input-file: {}: is a {}, expected a file or a pipe", places.input,
                           S_ISDIR(info->st_mode)    ? "folder"
                           : S_ISSOCK(info->st_mode) ? "socket"
                                                     : "device");
  }
  input->path = places.input;
  return OkStatus();
}

Expected<OutputPlace> FindOutput(const BatchPlaces& places) {
  ASSIGN_OR_RETURN(OutputPlace place, PlaceOf(places));
  const auto from = Stat(places.input), to = Stat(places.output);
  if (from && to && IsSame(*from, *to)) {
    return Unexpected(InvalidArgument("argument --output-file: {}: is the input", places.output));
  }
  return place;
}

Status Deliver(const std::string& collected, const OutputPlace& place, net::HttpClient* client) {
  if (place.kind == OutputPlace::Kind::kFile) {
    if (std::rename(collected.c_str(), place.path.c_str()) == 0) return OkStatus();
    return FileError(place.path, "cannot be written");
  }
  const Status status = place.kind == OutputPlace::Kind::kUrl ? Upload(collected, place.path, client)
                                                              : CopyInto(collected, place.path);
  if (!status.ok()) {
    return Status(status.code(),
                  fmt::format("argument --output-file: {}; the answers lie in {}", status.message(), collected));
  }
  std::error_code error;
  fs::remove(collected, error);
  return OkStatus();
}

}  // namespace tiercel::tools
