// GgufVocab: a vocabulary as GGUF files carry it (tokenizer.ggml.*), as plain data: model/ reads it, text/ makes a
// tokenizer of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tiercel {

struct GgufVocab {
  std::string model;  // "gpt2" (byte-level BPE) or "llama" (sentencepiece BPE)
  std::string pre;    // "qwen2", "smollm", "llama-bpe", …; empty if the file says nothing
  std::vector<std::string> tokens;
  std::vector<float> scores;         // [tokens] or empty; only "llama" uses them
  std::vector<int32_t> token_types;  // [tokens] or empty: 1 normal, 2 unknown, 3 control,
                                     // 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;   // "a b"
  // Token ids within [0, tokens), or −1 where the file names none.
  int64_t bos = -1, eos = -1, unknown = -1, padding = -1;
  bool add_bos = false;
  bool add_space_prefix = true;  // "llama" only: a text is encoded with a space before it
};

}  // namespace tiercel
