// Writing a checkpoint's tensors to safetensors files, one after the other.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "tensor/dtype.h"

namespace tiercel::checkpoint {

struct PlannedTensor {
  std::string name;
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape;
  int64_t bytes() const;
};

// FOLDER/PREFIX-0000i-of-0000n.safetensors for i = 1 … n, and PREFIX.safetensors.index.json. A part's
// tensors need to be known only when it begins.
class SafetensorsWriter {
 public:
  SafetensorsWriter(std::string folder, std::string prefix, int parts)
      : folder_(std::move(folder)), prefix_(std::move(prefix)), parts_(parts) {}

  // The next file, with these tensors in this order; the one before is complete (CHECKed). The error
  // is the disk's, here and below.
  Status BeginPart(std::vector<PlannedTensor> tensors);
  // The part's next tensor: name and size are CHECKed.
  Status Write(const std::string& name, std::span<const uint8_t> data);
  template <typename T>
  Status WriteValues(const std::string& name, const std::vector<T>& values) {
    return Write(name, {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)});
  }
  // All parts are complete: writes the index.
  Status Finish();

 private:
  Status ClosePart();

  const std::string folder_, prefix_;
  const int parts_;
  int part_ = 0;  // the current one, from 1
  std::vector<PlannedTensor> tensors_;  // of it
  size_t next_ = 0;
  std::string path_;
  std::ofstream file_;
  std::map<std::string, std::string> files_;  // of each tensor
  int64_t total_ = 0;  // bytes
};

}  // namespace tiercel::checkpoint
