// AscendFormat: linears of INT8 as the Ascend quantizer stores them, and its description.
//
// Weights: symmetric INT8, one scale per output row, max|w| / 127. Static inputs: one scale and offset for all tokens,
// from the least and largest value seen in calibration (zero included).
//
// With the scheme W8A8 a linear whose inputs one scale does not fit (outliers of a few tokens that leave the others few
// steps) is written as W8A8_DYNAMIC.
#pragma once

#include <string>
#include <vector>

#include "platform/worker_team.h"
#include "quantize/linear_format.h"
#include "quantize/model_quantizer.h"

namespace tiercel::quantize {

class AscendFormat final : public LinearFormat {
 public:
  AscendFormat(const QuantizeOptions& options, platform::WorkerTeam* team) : options_(options), team_(team) {}

  std::vector<TypedTensor> Plan(const LinearJob& job, LinearError* error) const override;
  Status Write(const LinearJob& job, const LinearSource& source, checkpoint::SafetensorsWriter* writer,
               LinearError* error) override;
  Status Finish(const std::vector<TypedTensor>& tensors, const std::string& folder) const override;

 private:
  QuantScheme SchemeOf(const LinearError& error) const;

  const QuantizeOptions& options_;
  platform::WorkerTeam* const team_;
};

// "W8A8" and so on.
const char* AscendTypeName(QuantScheme scheme);

// The quantizer's description of these tensors, in `folder`.
Status WriteDescription(const std::vector<TypedTensor>& tensors, const QuantizeOptions& options, const std::string& folder);

}  // namespace tiercel::quantize
