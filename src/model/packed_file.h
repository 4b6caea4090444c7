// A file of one rank's packed weights, for starts that only map it: the bytes as they lie in memory, behind a header that
// says of what they were made. Its pages are the page cache's, so they cost no memory of their own, and processes share them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "base/status.h"
#include "platform/buffer.h"

namespace tiercel::model {

struct PackedFile {
  std::string path;
  std::string key;  // the whole of what the bytes depend on
};

struct MappedWeights {
  platform::Buffer buffer;       // to be read alone
  std::vector<std::byte> aside;  // what does not lie in the matrices
};

// Nothing, with a line in the log, unless the file is there, was made of the same key and holds so many bytes.
std::optional<MappedWeights> MapPackedFile(const PackedFile& file, size_t bytes, size_t aside_bytes);

// Writes it anew, with the folders above it; the old one stays until the new one is whole. Nothing is left of a file that could not be
// written. `progress` gets how many bytes of `data` are written; it is cancelled as loading is.
Status WritePackedFile(const PackedFile& file, std::span<const std::byte> data, std::span<const std::byte> aside,
                       const std::atomic<bool>* cancelled, FunctionRef<void(int64_t)> progress);

}  // namespace tiercel::model
