// GroupRounding: a linear's weights in four bits, as --method says, and what is lost by that; for the formats that store them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "platform/worker_team.h"
#include "quantize/group_quantizer.h"
#include "quantize/linear_format.h"
#include "quantize/model_quantizer.h"
#include "quantize/output_loss.h"

namespace tiercel::quantize {

struct GroupedWeights {
  std::vector<int8_t> codes;  // [n][k]
  std::vector<BF16> scales;   // [n][k / group]
};

class GroupRounding {
 public:
  GroupRounding(const QuantizeOptions& options, platform::WorkerTeam* team) : options_(options), team_(team) {}

  // As in LinearFormat.
  Status Check(const LinearJob& job) const;
  Status BeginInputs(const LinearJob& job, std::vector<float> products);
  // `error` gets the errors of the weights and, with calibration, of the outputs.
  Expected<GroupedWeights> Round(const LinearJob& job, const LinearSource& source, LinearError* error) const;

 private:
  const QuantizeOptions& options_;
  platform::WorkerTeam* const team_;
  // Of the current inputs.
  std::optional<Gptq> gptq_;
  std::optional<OutputNorm> outputs_;
};

}  // namespace tiercel::quantize
