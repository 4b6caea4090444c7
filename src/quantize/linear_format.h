// LinearFormat: what a quantized checkpoint holds of its linears. ModelQuantizer goes through the layers and writes all
// that stays float; a format writes the linears.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/safetensors_writer.h"
#include "quantize/layer_linears.h"

namespace tiercel::quantize {

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
