// Writing a GGUF file (version 3; gguf_file.h has the format): all that stands before the data at once, then the
// tensors' data as it comes.
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_types.h"

namespace tiercel::checkpoint {

// Metadata in the order in which it is added, each key once.
class GgufEntries {
 public:
  void AddText(std::string_view key, std::string_view value);
  void AddU32(std::string_view key, int64_t value);  // CHECKs that it is one
  void AddF32(std::string_view key, double value);
  void AddBool(std::string_view key, bool value);
  void AddTexts(std::string_view key, const std::vector<std::string>& values);
  void AddI32s(std::string_view key, const std::vector<int32_t>& values);

  uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }  // as the file has them

 private:
  void AddKey(std::string_view key, GgufValueType type);

  uint64_t count_ = 0;
  std::string bytes_;
};

struct PlannedGgufTensor {
  std::string name;
  GgufTensorType type = GgufTensorType::kF32;
  std::vector<int64_t> shape;  // slowest dimension first; rows are whole blocks
  int64_t bytes() const;
};

class GgufWriter {
 public:
  // A new file at `path`, where there was none; until it is finished it lies beside, as `path`.part. Errors are the disk's,
  // here and below.
  static Expected<std::unique_ptr<GgufWriter>> Create(const std::string& path, const GgufEntries& entries,
                                                      std::vector<PlannedGgufTensor> tensors);
  // A file that was not finished is removed.
  ~GgufWriter();

  // The next bytes of the tensor whose turn it is: name and size are CHECKed.
  Status Append(const std::string& name, std::span<const uint8_t> data);
  // All tensors are there.
  Status Finish();

 private:
  GgufWriter(std::string path, std::vector<PlannedGgufTensor> tensors)
      : path_(std::move(path)), part_(path_ + ".part"), tensors_(std::move(tensors)) {}
  Status Written() const;

  const std::string path_, part_;
  const std::vector<PlannedGgufTensor> tensors_;
  size_t next_ = 0;
  int64_t of_next_ = 0;  // bytes of it that are there
  std::ofstream file_;
  bool finished_ = false;
};

}  // namespace tiercel::checkpoint
