// Writing a checkpoint's tensors to safetensors files, one after the other.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "tensor/dtype.h"

namespace tiercel::model {

struct PlannedTensor {
  std::string name;
  DType dtype = DType::kBF16;
  std::vector<int64_t> shape;
  int64_t bytes() const;
};

class SafetensorsWriter {
 public:
  // Lays the tensors out, in this order, over FOLDER/PREFIX-0000i-of-0000n.safetensors with at most
  // `part_bytes` of data each (a larger tensor has a file to itself), and writes
  // PREFIX.safetensors.index.json.
  static Expected<std::unique_ptr<SafetensorsWriter>> Create(const std::string& folder,
                                                             const std::string& prefix,
                                                             std::vector<PlannedTensor> tensors,
                                                             int64_t part_bytes);

  // The next tensor of the plan: name and size are CHECKed. The error is the disk's.
  Status Write(const std::string& name, std::span<const uint8_t> data);
  template <typename T>
  Status WriteValues(const std::string& name, const std::vector<T>& values) {
    return Write(name, {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)});
  }
  // Every tensor was written; closes the last file.
  Status Finish();

 private:
  SafetensorsWriter() = default;
  Status OpenPart();

  struct Part {
    std::string path;
    size_t begin = 0, end = 0;  // tensors
  };
  std::vector<PlannedTensor> tensors_;
  std::vector<Part> parts_;
  size_t next_ = 0;  // tensor
  size_t part_ = 0;  // the one to open next
  std::ofstream file_;
};

}  // namespace tiercel::model
