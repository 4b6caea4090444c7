// A model folder's tokenizer as a GGUF file carries it.
#pragma once

#include <cstdint>
#include <string>

#include "base/gguf_vocab.h"
#include "base/status.h"

namespace tiercel::text {

// Byte-level BPE vocabularies with one of the ways of splitting words that GGUF has names for; tried on a text, so that
// what is made of the result is this tokenizer. `rows` tokens, as many as the embedding has: padded with unused ones.
// bos, eos and padding are tokenizer_config.json's, −1 if it names none.
Expected<GgufVocab> ReadGgufVocab(const std::string& dir, int64_t rows);

}  // namespace tiercel::text
