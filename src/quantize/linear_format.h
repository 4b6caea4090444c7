// LinearFormat: what a quantized checkpoint holds of its linears. ModelQuantizer goes through the layers and writes all
// that stays float; a format writes the linears.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors_writer.h"
#include "model/layer_calibration.h"
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

// A tensor to write, and how the Ascend quantizer's description calls it.
struct TypedTensor {
  checkpoint::PlannedTensor tensor;
  const char* type = "FLOAT";
};

class LinearFormat {
 public:
  virtual ~LinearFormat() = default;

  // Whether the linear can be written.
  virtual Status Check(const LinearJob&) const { return OkStatus(); }
  // The linears that follow share the inputs of `job`, the first of them. `products` are these inputs' if they were
  // asked for.
  virtual Status BeginInputs(const LinearJob&, std::vector<float> /*products*/) { return OkStatus(); }
  // The tensors of a linear that is not excluded, in the order in which Write writes them. `error` has what the
  // inputs lose, and gets how they are quantized.
  virtual std::vector<TypedTensor> Plan(const LinearJob& job, LinearError* error) const = 0;
  virtual Status Write(const LinearJob& job, const LinearSource& source, checkpoint::SafetensorsWriter* writer,
                       LinearError* error) = 0;
  // All tensors are written: what says in `folder` how they are stored.
  virtual Status Finish(const std::vector<TypedTensor>&, const std::string&) const { return OkStatus(); }
  // The same as config.json's quantization_config; empty: it has none.
  virtual std::string Config(const std::vector<std::string>& /*excluded*/) const { return ""; }
};

}  // namespace tiercel::quantize
