// GgufQuantizer: writes a float checkpoint as one GGUF file with quantized matrices, layer by layer: norms and biases
// F32, which matrix in which type by quantize/gguf_recipe.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_metadata.h"
#include "kernels/environment.h"
#include "quantize/gguf_recipe.h"
#include "quantize/layer_linears.h"

namespace tiercel::quantize {

struct GgufOptions {
  const GgufScheme* scheme = nullptr;
  std::vector<std::string> exclude;  // patterns with * of linears, lm_head and model.embed_tokens that become BF16
  // Token ids, each sequence at most LayerCalibration::kMaxTokens long. With them the table has what outputs lose.
  std::vector<std::vector<int32_t>> calibration;
  checkpoint::GgufDescription description;  // its file_type is the scheme's
};

// Returns how many tensors of which type there are, "Q4_K 120, F32 61". After an error there is no file. Memory: some rows,
// and with calibration one layer's weights and the residual stream of its tokens.
Expected<std::string> QuantizeToGguf(const checkpoint::Checkpoint& checkpoint, GgufOptions options,
                                     kernels::Environment* environment, const std::string& path,
                                     const QuantizeCallbacks& callbacks);

}  // namespace tiercel::quantize
