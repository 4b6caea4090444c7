// PackedFormat: linears of four bits as compressed-tensors stores them (`pack-quantized`, W4A16): symmetric, a BF16
// scale for each group of a row's inputs, eight codes + 8 in an INT32, the first in its lowest bits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "platform/worker_team.h"
#include "quantize/group_quantizer.h"
#include "quantize/linear_format.h"
#include "quantize/model_quantizer.h"
#include "quantize/output_loss.h"

namespace tiercel::quantize {

class PackedFormat final : public LinearFormat {
 public:
  PackedFormat(const QuantizeOptions& options, platform::WorkerTeam* team) : options_(options), team_(team) {}

  Status Check(const LinearJob& job) const override;
  Status BeginInputs(const LinearJob& job, std::vector<float> products) override;
  std::vector<TypedTensor> Plan(const LinearJob& job, LinearError* error) const override;
  Status Write(const LinearJob& job, const LinearSource& source, checkpoint::SafetensorsWriter* writer,
               LinearError* error) override;
  std::string Config(const std::vector<std::string>& excluded) const override;

 private:
  const QuantizeOptions& options_;
  platform::WorkerTeam* const team_;
  // Of the current inputs.
  std::optional<Gptq> gptq_;
  std::optional<OutputNorm> outputs_;
};

}  // namespace tiercel::quantize
