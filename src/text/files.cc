#include "text/files.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/file_hints.h"

namespace tiercel::text {

Expected<std::optional<std::string>> ReadFileIfPresent(const std::string& path, size_t max_bytes) {
  std::error_code ec;
  if (!std::filesystem::exists(std::filesystem::symlink_status(path, ec))) return std::optional<std::string>();
  if (const std::string link = BrokenLinkHint(path); !link.empty()) {
    return Unexpected(InvalidArgument("{}: no such file{}", path, link));
  }
  const uintmax_t size = std::filesystem::file_size(path, ec);
  if (size == 0) return Unexpected(InvalidArgument("{}: is empty (0 bytes); the download is incomplete", path));
  if (ec) return Unexpected(InvalidArgument("{}: {}", path, ec.message()));
  if (size > max_bytes) {
    return Unexpected(
        InvalidArgument("{}: found {} bytes, expected at most {}", path, size, max_bytes));
  }
  std::ifstream file(path, std::ios::binary);
  std::string content(size, '\0');
  if (!file || !file.read(content.data(), static_cast<std::streamsize>(size))) {
    return Unexpected(InvalidArgument("{}: cannot be read: {}", path, std::strerror(errno)));
  }
  return std::optional<std::string>(std::move(content));
}

}  // namespace tiercel::text
