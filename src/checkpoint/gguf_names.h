// The names of a model's tensors in GGUF files and in Hugging Face's.
#pragma once

#include <string>

namespace tiercel::checkpoint {

// "blk.3.attn_q.weight" → "model.layers.3.self_attn.q_proj.weight", and back. Names that have no counterpart stay as
// they are.
std::string HuggingFaceName(const std::string& gguf);
std::string GgufName(const std::string& hugging_face);

}  // namespace tiercel::checkpoint
