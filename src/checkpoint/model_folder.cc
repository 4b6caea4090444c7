#include "checkpoint/model_folder.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "platform/mapped_file.h"

namespace tiercel::checkpoint {

namespace fs = std::filesystem;

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

std::vector<std::string> ListFiles(const std::string& folder, std::string_view suffix) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator it(folder, error);
  // increment(error) leaves the end iterator behind on an error, so the loop always ends.
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(suffix) && !name.starts_with(".")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string DescribeFolder(const std::string& folder) {
  constexpr size_t kShown = 6;
  const std::vector<std::string> names = ListFiles(folder, "");
  if (names.empty()) return "nothing";
  std::string text;
  for (size_t i = 0; i < names.size() && i < kShown; ++i) text += (i > 0 ? ", " : "") + names[i];
  if (names.size() > kShown) text += fmt::format(" and {} more", names.size() - kShown);
  return text;
}

Expected<std::string> ReadSmallFile(const std::string& path) {
  constexpr size_t kMost = size_t{64} << 20;
  ASSIGN_OR_RETURN(const platform::MappedFile file, platform::MappedFile::Open(path));
  if (file.bytes().size() > kMost) {
    return Unexpected(InvalidArgument("{}: found {} bytes, expected at most {}", path,
                                      file.bytes().size(), kMost));
  }
  return std::string(file.bytes().begin(), file.bytes().end());
}

}  // namespace tiercel::checkpoint
