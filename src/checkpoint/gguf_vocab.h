// GgufTokenizerData: the tokenizer that a GGUF file carries in its metadata.
#pragma once

#include <string>

#include "base/gguf_vocab.h"

namespace tiercel::checkpoint {

struct GgufTokenizerData : GgufVocab {
  std::string chat_template;  // Jinja; empty if there is none
};

}  // namespace tiercel::checkpoint
