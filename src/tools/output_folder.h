// A folder that a command writes a model to: whole, or as it was before.
#pragma once

#include <string>

#include "base/status.h"

namespace tiercel::tools {

class OutputFolder {
 public:
  // `path` is made, with the folders above it, or there and empty.
  static Expected<OutputFolder> Make(const std::string& path);
  // Removes the files in it, and the folder if Make made it, unless it is to stay.
  ~OutputFolder();
  OutputFolder(OutputFolder&& other) noexcept;
  OutputFolder& operator=(OutputFolder&&) = delete;

  const std::string& path() const { return path_; }
  void Keep() { keep_ = true; }

 private:
  OutputFolder(std::string path, bool made) : path_(std::move(path)), made_(made) {}

  std::string path_;
  bool made_;
  bool keep_ = false;
};

}  // namespace tiercel::tools
