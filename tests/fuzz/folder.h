// A folder of this process in which a fuzzer writes the files of a model.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/check.h"

namespace tiercel::fuzz {

class Folder {
 public:
  Folder() {
    std::error_code error;
    const bool in_memory = std::filesystem::exists("/dev/shm", error);
    path_ = in_memory ? "/dev/shm/tiercel_fuzz_XXXXXX" : "/tmp/tiercel_fuzz_XXXXXX";
    CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ~Folder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  void Write(const std::string& name, std::string_view content) const {
    std::ofstream(path_ + "/" + name, std::ios::binary | std::ios::trunc) << content;
  }

 private:
  std::string path_;
};

// Takes a part off the front of an input: two bytes of length, and the part.
inline std::string_view TakePart(std::string_view* input) {
  if (input->size() < 2) return {};
  const size_t length = static_cast<uint8_t>((*input)[0]) + 256u * static_cast<uint8_t>((*input)[1]);
  const std::string_view part = input->substr(2, length);
  input->remove_prefix(2 + part.size());
  return part;
}

}  // namespace tiercel::fuzz
