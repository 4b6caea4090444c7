// A read-only mapping of a whole file. One that another process makes shorter meanwhile ends this
// process with a line that names it (bus_error.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "platform/bus_error.h"

namespace tiercel::platform {

class MappedFile {
 public:
  MappedFile() = default;
  // Errors name the file: not found, not readable, empty, not a regular file.
  static Expected<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  // Hints for [offset, offset + length): read ahead, or drop from this process after use.
  void WillNeed(size_t offset, size_t length) const;
  void DontNeed(size_t offset, size_t length) const;

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  std::string path_;
  NamedMemory name_;
};

}  // namespace tiercel::platform
