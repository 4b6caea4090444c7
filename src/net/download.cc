#include "net/download.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "net/blocked_signals.h"

namespace tiercel::net {
namespace {

class OutputFile {
 public:
  static Expected<OutputFile> Open(const std::string& path) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) return Unexpected(Fault(path, "cannot be opened for writing"));
    OutputFile file(path, fd);
    struct stat info {};
    if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
      return Unexpected(FailedPrecondition("{}: is no plain file; remove it", path));
    }
    file.size_ = info.st_size;
    return file;
  }
  OutputFile(OutputFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile() {
    if (fd_ >= 0) ::close(fd_);
  }

  int64_t size() const { return size_; }

  Status Append(std::string_view piece) {
    while (!piece.empty()) {
      const ssize_t count = ::pwrite(fd_, piece.data(), piece.size(), size_);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return Fault(path_, "cannot be written");
      size_ += count;
      piece.remove_prefix(static_cast<size_t>(count));
    }
    return OkStatus();
  }
  Status Clear() {
    if (::ftruncate(fd_, 0) != 0) return Fault(path_, "cannot be emptied");
    size_ = 0;
    return OkStatus();
  }
  // Some file systems tell only here that the disk is full.
  Status Sync() { return ::fdatasync(fd_) == 0 ? OkStatus() : Fault(path_, "cannot be written"); }

 private:
  OutputFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  static Status Fault(const std::string& path, const char* what) {
    const int error = errno;
    const std::string text = fmt::format("{}: {}: {}", path, what, std::strerror(error));
    const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
    if (!full) return Status(StatusCode::kFailedPrecondition, text);
    return ResourceExhausted("{}; make room and run it again, it goes on from there", text);
  }

  std::string path_;
  int fd_;
  int64_t size_ = 0;
};

// "bytes 5-9/10"
struct ContentRange {
  int64_t begin = -1;
  int64_t total = -1;  // −1: "*", or none
};

ContentRange ParseContentRange(std::string_view text) {
  ContentRange range;
  if (!text.starts_with("bytes ")) return range;
  text.remove_prefix(6);
  const char* end = text.data() + text.size();
  std::from_chars(text.data(), end, range.begin);
  if (const size_t slash = text.find('/'); slash != text.npos) {
    std::from_chars(text.data() + slash + 1, end, range.total);
  }
  return range;
}

int64_t ContentLength(const HttpResponse& head) {
  int64_t length = -1;
  const std::string text = head.header("Content-Length").value_or("");
  std::from_chars(text.data(), text.data() + text.size(), length);
  return length;
}

// One request for what is missing. Again() tells whether another may help after an error.
class Try {
 public:
  Try(const DownloadSpec& spec, OutputFile* file, const Progress& progress)
      : spec_(spec), file_(*file), progress_(progress), total_(spec.size) {}

  Status Run(HttpClient* client) {
    const int64_t have = file_.size();
    HttpRequestSpec request{"GET", spec_.url, spec_.headers, ""};
    request.stop = spec_.stop;
    if (have > 0) request.headers.emplace_back("Range", fmt::format("bytes={}-", have));
    const Expected<HttpResponse> response =
        client->Send(request, [&](std::string_view piece) { return TakePiece(piece); },
                     [&](const HttpResponse& head) { return TakeHead(head); });
    if (!fault_.ok()) return fault_;
    if (!response) {
      // The file's own name: the transport's message knows only the server that broke off.
      const Status& error = response.error();
      again_ = error.code() == StatusCode::kUnavailable;
      return Status(error.code(), fmt::format("{}: {}", spec_.url, error.message()));
    }
    if (response->status == 416) return NothingLeft(*response, have);
    if (response->status != 200 && response->status != 206) return BadStatus(*response);
    if (total_ >= 0 && file_.size() != total_) {
      again_ = true;
      return Unavailable("{}: found {} bytes, expected {}", spec_.url, file_.size(), total_);
    }
    return OkStatus();
  }

  bool Again() const { return again_; }
  double retry_after_s() const { return retry_after_s_; }

 private:
  bool Refuse(Status fault) {
    fault_ = std::move(fault);
    return false;
  }

  bool TakeHead(const HttpResponse& head) {
    if (head.status != 200 && head.status != 206) return true;
    int64_t total = ContentLength(head);
    if (head.status == 200) {
      // The whole file comes, asked for or not.
      if (const Status status = file_.Clear(); !status.ok()) return Refuse(status);
    } else {
      const ContentRange range = ParseContentRange(head.header("Content-Range").value_or(""));
      if (range.begin != file_.size()) return StartAnew("another range than was asked for");
      total = range.total;
    }
    if (total >= 0 && spec_.size >= 0 && total != spec_.size) {
      return Refuse(FailedPrecondition("{}: the server has {} bytes, expected {}", spec_.url, total,
                                       spec_.size));
    }
    if (total_ < 0) total_ = total;
    if (progress_) progress_(file_.size());
    return true;
  }

  bool TakePiece(std::string_view piece) {
    if (total_ >= 0 && static_cast<int64_t>(piece.size()) > total_ - file_.size()) {
      return Refuse(FailedPrecondition("{}: the server sends more than {} bytes", spec_.url,
                                       total_));
    }
    if (const Status status = file_.Append(piece); !status.ok()) return Refuse(status);
    if (progress_) progress_(file_.size());
    return true;
  }

  // What is there does not fit to what the server has: the next try begins at 0.
  bool StartAnew(const char* why) {
    if (const Status status = file_.Clear(); !status.ok()) return Refuse(status);
    again_ = true;
    return Refuse(Unavailable("{}: {}; it is fetched from its beginning", spec_.url, why));
  }

  // The server says that the file ends where ours does, or before.
  Status NothingLeft(const HttpResponse& response, int64_t have) {
    const ContentRange range = ParseContentRange(response.header("Content-Range").value_or(""));
    if (total_ < 0 && range.total == have) return OkStatus();
    StartAnew("the server has less than what is there");
    return fault_;
  }

  Status BadStatus(const HttpResponse& response) {
    const int status = response.status;
    again_ = IsPassing(status);
    retry_after_s_ = response.retry_after_s;
    std::string text = fmt::format("{}: the server answered HTTP {}", spec_.url, status);
    const bool denied = status == 401 || status == 403;
    if (denied && !spec_.denied_hint.empty()) text += "; " + spec_.denied_hint;
    return Status(status == 404 ? StatusCode::kNotFound : StatusCode::kUnavailable, text);
  }

  const DownloadSpec& spec_;
  OutputFile& file_;
  const Progress& progress_;
  int64_t total_;
  Status fault_;  // found while the answer came
  bool again_ = false;
  double retry_after_s_ = 0;
};

}  // namespace

Status Download(HttpClient* client, const DownloadSpec& spec, const Progress& progress) {
  const BlockedSignals blocked;
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(spec.path));
  if (spec.size >= 0 && file.size() > spec.size) RETURN_IF_ERROR(file.Clear());
  if (progress) progress(file.size());
  Retries retries(spec.retry);
  while (spec.size < 0 || file.size() < spec.size) {
    const int64_t before = file.size();
    Try one(spec, &file, progress);
    const Status status = one.Run(client);
    if (status.ok()) break;
    if (!one.Again()) return status;
    if (file.size() > before) retries.Gained();
    const auto wait = retries.NextWait(one.retry_after_s());
    if (!wait) {
      return Status(status.code(), fmt::format("{} ({} tries); run it again to go on",
                                               status.message(), retries.tries()));
    }
    if (!WaitToRetry(*wait, status.message(), spec.stop)) {
      return Status(StatusCode::kCancelled, "stopped");
    }
  }
  return file.Sync();
}

}  // namespace tiercel::net
