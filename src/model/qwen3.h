// The forward pass of Qwen3, and by configuration of Qwen2 (q/k/v bias, no q/k norm) and Llama
// (neither): records one step as a Program.
#pragma once

#include <cstdint>

#include "checkpoint/config.h"
#include "model/activations.h"
#include "model/program.h"
#include "model/rope.h"
#include "model/weight_prefetch.h"
#include "model/weights.h"

namespace tiercel::model {

// What of a step is bound at recording.
struct StepShape {
  int64_t rows = 0;        // T ≥ 1
  int64_t seqs = 0;        // S ≥ 1
  int64_t logit_rows = 0;  // R, may be 0
  int64_t head_rows = 0;   // of those, how many become logits at a time
  PrefetchBytes prefetch = {};  // in steps of fewer than kPrefetchRows rows
  // Norms, and attention and SwiGLU before a static projection, write what the next linear
  // multiplies in the pass that computes it; false: BF16 first, and a quantization of its own. The
  // same bits.
  bool fuse_norm_quant = true;
  // Where workers share the KV heads unevenly, the keys of a decode's row may be split among them;
  // false: each row and head stays on one worker. The same bits.
  bool split_keys = true;
  // FlashComm: of many rows each of several ranks norms (and quantizes) its own alone, and all read what has
  // come of them; false: each norms all rows for itself. The same bits.
  bool scatter = false;
  // Of several ranks each first computes what others own of a chunk of o's and down's product, and then, in
  // one pass with the sum of all ranks' parts, what it owns itself; false: all of its part, and then the
  // sum. The same bits.
  bool fuse_sum = false;
};

// Records into `program` what turns the activations' input buffers into KV cache entries and the
// logits of the first head_rows logit rows. After the program's last operator every worker may read
// these. A stage of the layers before the last one hands its rows on instead.
void RecordForward(const checkpoint::ModelConfig& config, const Weights& weights, const RopeTable& rope,
                   const Activations& activations, const StepShape& shape, Program* program);

// What computes the logits of the head_rows logit rows from `first` on (fewer at the end), in the
// place of those before, once the step's RecordForward program has run.
void RecordHead(const checkpoint::ModelConfig& config, const Weights& weights, const RopeTable& rope,
                const Activations& activations, const StepShape& shape, int64_t first,
                Program* program);

}  // namespace tiercel::model
