// Checkpoint: the tensors of a model's files under their Hugging Face names, whatever the format.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bf16.h"
#include "base/status.h"
#include "checkpoint/block_row.h"
#include "checkpoint/config.h"
#include "checkpoint/gguf_vocab.h"
#include "checkpoint/quantization.h"

namespace tiercel::checkpoint {

struct TensorInfo {
  std::vector<int64_t> shape;
  std::string type;  // the format's own name: "BF16", "F32", "Q4_K", …
};

// Immutable after opening; Read* may be called from many threads at once.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  // A folder with config.json and *.safetensors (single, or sharded with its index), a folder
  // with one *.gguf, or a .gguf file. Checks every header against its file: offsets, shapes,
  // lengths, overlaps, missing shards, a description of quantized weights that does not fit them.
  // Errors name the file, what was found and what to do. `quantization` is the flag's value, see
  // DetectQuantization.
  static Expected<std::unique_ptr<Checkpoint>> Open(const std::string& path,
                                                    std::string_view hf_overrides = "",
                                                    const std::string& quantization = "");

  // For messages: the folder or file that it was opened from, empty if there is none; and where a field of the configuration
  // stands there ("DIR/config.json: head_dim"), or that it is --hf-overrides'.
  virtual std::string path() const { return ""; }
  std::string PlaceOf(std::string_view field) const;

  virtual std::string PlaceInFile(std::string_view field) const;

  virtual const ModelConfig& config() const = 0;
  virtual const GenerationConfig& generation_config() const = 0;
  virtual const Quantization& quantization() const;  // by default: none
  // The tokenizer that a GGUF file carries; null for other formats.
  virtual const GgufTokenizerData* gguf_tokenizer() const { return nullptr; }

  virtual std::optional<TensorInfo> Find(const std::string& name) const = 0;
  virtual std::vector<std::string> Names() const = 0;
  virtual int64_t FileBytes() const = 0;

  // Rows [begin, end) of a matrix [n, k] (or of a vector [n]: k = 1) converted to BF16 or FP32.
  // NotFound names the tensor and the file where it was looked for.
  virtual Status ReadRows(const std::string& name, int64_t begin, int64_t end, BF16* out) const = 0;
  virtual Status ReadRows(const std::string& name, int64_t begin, int64_t end,
                          float* out) const = 0;
  // The format in which a matrix's few bits can be kept; kNone: it has none such.
  virtual BlockFormat BlockFormatOf(const std::string&) const { return BlockFormat::kNone; }
  // The order in which ReadBlocks has a row's inputs: the one that comes i-th is input order[i]. Empty: their own. As long
  // as the checkpoint is there.
  virtual std::span<const int32_t> BlockOrderOf(const std::string&) const { return {}; }
  // One row of such a matrix.
  virtual Status ReadBlocks(const std::string& name, int64_t row, BlockRow* out) const;
  // The BF16 data in place (mapped), if it is stored so; null otherwise.
  virtual const BF16* MappedBF16(const std::string& name) const = 0;
  // The data of any type in place, unaligned, of the size that shape and type say; null for formats
  // that hold no integers, and for tensors that are not there.
  virtual const uint8_t* MappedBytes(const std::string&) const { return nullptr; }
  // Read-ahead for a tensor that will be read soon; and: its pages are no longer needed.
  virtual void WillNeed(const std::string& name) const = 0;
  virtual void DontNeed(const std::string& name) const = 0;
};

}  // namespace tiercel::checkpoint
