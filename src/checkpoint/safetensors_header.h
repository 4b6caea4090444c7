// The header of one safetensors file, checked against the file.
//
// Format (huggingface/safetensors): uint64 little-endian header length, that many bytes of JSON
//   {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, "__metadata__": {…}}
// and the data, to which the offsets are relative; tensors lie without gaps up to the file's end.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace tiercel::checkpoint {

struct SafetensorsEntry {
  std::string dtype;  // as written: "BF16", "F32", "I8", …
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes from the file's start
};

using SafetensorsHeader = std::map<std::string, SafetensorsEntry>;

// `file` is the whole file; `path` is for messages. What is returned may be trusted: every range
// lies within the file, has the size that dtype and shape say, and none overlap.
Expected<SafetensorsHeader> ParseSafetensorsHeader(std::span<const uint8_t> file,
                                                   const std::string& path);

}  // namespace tiercel::checkpoint
