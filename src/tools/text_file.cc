#include "tools/text_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace tiercel::tools {

Status WriteText(const std::string& path, const std::string& text, bool append) {
  std::error_code error;
  const bool behind = append && std::filesystem::exists(path, error) &&
                      std::filesystem::file_size(path, error) > 0;
  std::ofstream file(path, append ? std::ios::app : std::ios::trunc);
  file << (behind ? "\n" : "") << text;
  file.close();
  if (!file) return FailedPrecondition("{}: cannot be written: {}", path, std::strerror(errno));
  return OkStatus();
}

}  // namespace tiercel::tools
