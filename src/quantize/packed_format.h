// PackedFormat: linears of four bits as compressed-tensors stores them (`pack-quantized`, W4A16): symmetric, a BF16
// scale for each group of a row's inputs, eight codes + 8 in an INT32, the first in its lowest bits.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "platform/worker_team.h"
#include "quantize/group_rounding.h"
#include "quantize/linear_format.h"
#include "quantize/model_quantizer.h"

namespace tiercel::quantize {

class PackedFormat final : public LinearFormat {
 public:
  PackedFormat(const QuantizeOptions& options, platform::WorkerTeam* team) : options_(options), rounding_(options, team) {}

  Status Check(const LinearJob& job) const override { return rounding_.Check(job); }
  Status BeginInputs(const LinearJob& job, std::vector<float> products) override {
    return rounding_.BeginInputs(job, std::move(products));
  }
  std::vector<TypedTensor> Plan(const LinearJob& job, LinearError* error) const override;
  Status Write(const LinearJob& job, const LinearSource& source, checkpoint::SafetensorsWriter* writer,
               LinearError* error) override;
  std::string Config(const std::vector<std::string>& excluded) const override;

 private:
  const QuantizeOptions& options_;
  GroupRounding rounding_;
};

}  // namespace tiercel::quantize
