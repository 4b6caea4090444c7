#include "tools/output_folder.h"

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

namespace tiercel::tools {

namespace fs = std::filesystem;

Expected<OutputFolder> OutputFolder::Make(const std::string& path) {
  std::error_code error;
  const bool made = !fs::exists(path, error);
  fs::create_directories(path, error);
  if (error) return Unexpected(FailedPrecondition("{}: cannot be made: {}", path, error.message()));
  if (!fs::is_empty(path, error) || error) {
    return Unexpected(InvalidArgument("{}: is not an empty folder; name a new one", path));
  }
  return OutputFolder(path, made);
}

OutputFolder::OutputFolder(OutputFolder&& other) noexcept
    : path_(std::move(other.path_)), made_(other.made_), keep_(std::exchange(other.keep_, true)) {}

OutputFolder::~OutputFolder() {
  if (keep_) return;
  std::error_code ignored;
  std::vector<fs::path> files;
  for (fs::directory_iterator it(path_, ignored), end; it != end; it.increment(ignored)) {
    if (it->is_regular_file(ignored)) files.push_back(it->path());
  }
  for (const fs::path& file : files) fs::remove(file, ignored);
  if (made_) fs::remove(path_, ignored);
}

}  // namespace tiercel::tools
