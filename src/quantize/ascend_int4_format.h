// AscendInt4Format: linears of four bits as the Ascend quantizer stores them (W4A8_DYNAMIC, version 1.0.0;
// checkpoint/ascend_int4_checkpoint.h has the layout), and its description.
//
// A group's scale is the product of its row's, a power of two, and its own: both BF16 numbers, and so is the product.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "platform/worker_team.h"
#include "quantize/group_rounding.h"
#include "quantize/linear_format.h"
#include "quantize/model_quantizer.h"

namespace tiercel::quantize {

class AscendInt4Format final : public LinearFormat {
 public:
  AscendInt4Format(const QuantizeOptions& options, platform::WorkerTeam* team) : options_(options), rounding_(options, team) {}

  Status Check(const LinearJob& job) const override;
  Status BeginInputs(const LinearJob& job, std::vector<float> products) override {
    return rounding_.BeginInputs(job, std::move(products));
  }
  std::vector<TypedTensor> Plan(const LinearJob& job, LinearError* error) const override;
  Status Write(const LinearJob& job, const LinearSource& source, checkpoint::SafetensorsWriter* writer,
               LinearError* error) override;
  Status Finish(const std::vector<TypedTensor>& tensors, const std::string& folder) const override;

 private:
  const QuantizeOptions& options_;
  GroupRounding rounding_;
};

}  // namespace tiercel::quantize
