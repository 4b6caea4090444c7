// The linears of a layer, what smoothing makes of them, and what becomes of each: for all that writes quantized models.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "model/layer_calibration.h"
#include "quantize/smoothing.h"
#include "quantize/static_input.h"

namespace tiercel::quantize {

// A linear of the checkpoint and what smoothing does to it: w'[r, c] = w[r, c] · columns[c] / rows[r].
struct LinearJob {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  int64_t n = 0, k = 0;
  bool has_bias = false;
  const std::vector<float>* columns = nullptr;  // null: 1
  const std::vector<float>* rows = nullptr;
  const model::LinearInputs* inputs = nullptr;  // before smoothing; null: not calibrated
  bool excluded = false;  // stays float
};

// The job's floats, smoothed.
class LinearSource {
 public:
  LinearSource(const checkpoint::Checkpoint& checkpoint, const LinearJob& job) : checkpoint_(checkpoint), job_(job) {}

  Status ReadRow(int64_t row, float* out) const;  // [k]
  Expected<std::vector<float>> ReadBias() const;  // [n], or empty: it has none

 private:
  const checkpoint::Checkpoint& checkpoint_;
  const LinearJob& job_;
};

// One linear's outcome, for the table, after smoothing.
struct LinearError {
  std::string name;   // "self_attn.q_proj"
  double error = -1;  // of the weights, ‖w − ŵ‖ / ‖w‖; < 0: float
  double output_error = -1;  // ‖X(w − ŵ)‖ / ‖X·w‖ on the sample of the inputs; < 0: not looked at
  InputLoss inputs;   // of INT8 inputs; zeros if not calibrated
  bool per_token = false;
};

struct QuantizeCallbacks {
  // Bytes of the float weights. An error ends the work, which returns it.
  std::function<Status(int64_t done, int64_t total)> progress;
  std::function<void(int64_t layer, const std::vector<LinearError>& errors)> layer;
};

// Whether one of the patterns, with *, is the linear's.
bool IsExcluded(const std::vector<std::string>& patterns, const std::string& linear);

// In the order of a layer's matmuls. `smooth` outlives them.
std::vector<LinearJob> LinearsOf(const checkpoint::ModelConfig& config, int64_t layer, const LayerSmoothing& smooth,
                                 const std::vector<std::string>& excluded);
std::vector<std::string> NormsOf(const checkpoint::ModelConfig& config, int64_t layer);
// The inputs of each of LinearsOf: neighbors with the same ones are one matmul.
std::array<model::LinearInputs*, 7> InputsOf(model::LayerInputs* inputs);
// "self_attn.q_proj" of "model.layers.0.self_attn.q_proj".
std::string NameInLayer(const std::string& linear);

}  // namespace tiercel::quantize
