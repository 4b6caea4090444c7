// What a GGUF file says of a model beside its tensors: the inverse of gguf_config.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/config.h"
#include "checkpoint/gguf_vocab.h"
#include "checkpoint/gguf_writer.h"

namespace tiercel::checkpoint {

struct GgufDescription {
  std::string name;           // the model's, for people
  int64_t file_type = 0;      // general.file_type: the mix of types, by llama.cpp's numbers
  GgufTokenizerData tokenizer;
  std::vector<int32_t> ends;  // beside tokenizer.eos, what ends an answer; the first two are kept
};

// Unimplemented: such a file cannot say it, or no reader takes it.
Expected<GgufEntries> DescribeModel(const ModelConfig& config, const GgufDescription& description);

}  // namespace tiercel::checkpoint
