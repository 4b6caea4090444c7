#include "net/download.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

namespace tiercel::net {

Status Download(HttpClient* client, const std::string& url, const std::string& path,
                HttpHeaders headers, const Progress& progress) {
  std::error_code no_file;
  int64_t have = 0;
  if (const auto size = std::filesystem::file_size(path, no_file); !no_file) {
    have = static_cast<int64_t>(size);
  }
  if (have > 0) headers.emplace_back("Range", fmt::format("bytes={}-", have));
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "ab"),
                                                             std::fclose);
  if (file == nullptr) return FailedPrecondition("{}: cannot be opened for writing", path);
  int64_t done = have;
  int64_t total = -1;
  bool disk_full = false;
  std::string wrong_range;
  const HttpClient::OnHead on_head = [&](const HttpResponse& head) {
    if (head.status / 100 != 2) return true;
    if (head.status == 200 && done > 0) {
      // The whole file comes again: what was there is dropped.
      std::fflush(file.get());
      std::error_code error;
      std::filesystem::resize_file(path, 0, error);
      done = 0;
    }
    if (head.status == 206) {
      const std::string range = head.header("Content-Range").value_or("");
      if (range.rfind(fmt::format("bytes {}-", done), 0) != 0) {
        wrong_range = range.empty() ? "none" : range;
        return false;
      }
    }
    if (const auto length = head.header("Content-Length")) {
      total = done + std::strtoll(length->c_str(), nullptr, 10);
    }
    return !progress || progress(done, total);
  };
  const HttpClient::Sink sink = [&](std::string_view piece) {
    disk_full = std::fwrite(piece.data(), 1, piece.size(), file.get()) != piece.size();
    if (disk_full) return false;
    done += static_cast<int64_t>(piece.size());
    return !progress || progress(done, total);
  };
  Expected<HttpResponse> response =
      client->Send({"GET", url, std::move(headers), ""}, sink, on_head);
  if (disk_full || std::fflush(file.get()) != 0) {
    return ResourceExhausted("{}: cannot be written; is the disk full?", path);
  }
  if (!wrong_range.empty()) {
    return Unavailable("{}: asked for bytes from {} on, found Content-Range {}", url, have,
                       wrong_range);
  }
  if (!response) return response.error();
  if (response->status == 416) {
    // "bytes */N": nothing is left to get, if N is what we have.
    const std::string range = response->header("Content-Range").value_or("");
    const size_t slash = range.rfind('/');
    if (slash != std::string::npos && range.substr(slash + 1) == std::to_string(have)) {
      return OkStatus();
    }
    return Unavailable("{}: {} holds {} bytes, more than the server has ({}); remove the file", url,
                       path, have, range);
  }
  if (response->status != 200 && response->status != 206) {
    return Status(response->status == 404 ? StatusCode::kNotFound : StatusCode::kUnavailable,
                  fmt::format("{}: the server answered {}", url, response->status));
  }
  if (total >= 0 && done != total) {
    return Unavailable("{}: found {} bytes, expected {}; run it again to go on", url, done, total);
  }
  return OkStatus();
}

}  // namespace tiercel::net
