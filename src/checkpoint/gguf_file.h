// The structure of a GGUF file, checked against the file: metadata and the places of the tensors.
//
// Format (ggml docs/gguf.md, versions 2 and 3, little-endian): "GGUF", u32 version, u64 tensors,
// u64 metadata entries; the entries (string key, u32 type, value); the tensors (string name,
// u32 rank, u64 dimensions with the fastest first, u32 type, u64 offset); padding to
// general.alignment; the data, to which the offsets are relative.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"

namespace tiercel::checkpoint {

enum class GgufValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// A checked view of an array in the file; strings are read when they are asked for.
struct GgufArray {
  GgufValueType element = GgufValueType::kU8;
  uint64_t count = 0;
  std::span<const uint8_t> bytes;
};

using GgufValue = std::variant<int64_t, double, bool, std::string_view, GgufArray>;

struct GgufTensor {
  uint32_t type = 0;            // one that GgufBlockOf knows
  std::vector<int64_t> shape;   // slowest dimension first, as everywhere else here
  uint64_t begin = 0, end = 0;  // bytes from the file's start
};

// Views into the file's bytes, which must outlive it.
class GgufFile {
 public:
  // `path` is for messages. Every offset, length and count is checked, and no more than the first
  // 256 MiB are read.
  static Expected<GgufFile> Parse(std::span<const uint8_t> file, const std::string& path);

  const std::map<std::string, GgufTensor, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }

  bool Has(std::string_view key) const { return metadata_.find(key) != metadata_.end(); }
  // A value as a message shows it; "nothing" where it is absent.
  std::string Show(std::string_view key) const;
  // Metadata by key; nullopt where it is absent or of another kind.
  std::optional<int64_t> Int(std::string_view key) const;
  std::optional<double> Number(std::string_view key) const;  // integers too
  std::optional<bool> Bool(std::string_view key) const;
  std::optional<std::string> String(std::string_view key) const;
  const GgufArray* Array(std::string_view key) const;

  // The elements of an array; nullopt where it holds others, or more than `most`: a number takes up to
  // eight times as much here as in the file.
  static std::optional<std::vector<std::string>> Strings(const GgufArray& array, uint64_t most);
  static std::optional<std::vector<double>> Numbers(const GgufArray& array, uint64_t most);

 private:
  friend class GgufParser;
  std::map<std::string, GgufTensor, std::less<>> tensors_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
};

}  // namespace tiercel::checkpoint
