#include "quantize/group_rounding.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "quantize/smoothing.h"

namespace tiercel::quantize {
namespace {

// The row that `out` stands for; the error: it is not finite.
Status Unpack(const std::string& name, int64_t r, int64_t group, const GroupRow& out, std::vector<float>* row) {
  for (size_t i = 0; i < row->size(); ++i) {
    const float scale = ToFloat(out.scales[static_cast<int64_t>(i) / group]);
    if (!std::isfinite(scale)) return InvalidArgument("{}.weight: row {} has values that are not finite", name, r);
    (*row)[i] = scale * static_cast<float>(out.codes[i]);
  }
  return OkStatus();
}

}  // namespace

Status GroupRounding::Check(const LinearJob& job) const {
  if (job.excluded || job.k % options_.group == 0) return OkStatus();
  return Unimplemented("{}.weight: found {} inputs, expected whole groups of {}; choose another --group, or leave it "
                       "float with --exclude",
                       job.name, job.k, options_.group);
}

Status GroupRounding::BeginInputs(const LinearJob& job, std::vector<float> products) {
  gptq_.reset();
  outputs_.reset();
  if (job.inputs != nullptr) outputs_.emplace(*job.inputs, job.k, job.columns);
  if (options_.method != Rounding::kGptq) return OkStatus();
  ASSIGN_OR_RETURN(gptq_, Gptq::Create(std::move(products), job.k, team_));
  return OkStatus();
}

Expected<GroupedWeights> GroupRounding::Round(const LinearJob& job, const LinearSource& source, LinearError* error) const {
  const int64_t k = job.k, group = options_.group;
  GroupedWeights rounded{std::vector<int8_t>(static_cast<size_t>(job.n * k)),
                         std::vector<BF16>(static_cast<size_t>(job.n * k / group))};
  std::vector<RoundingLoss> losses(static_cast<size_t>(team_->size()));
  const int64_t tiles = (job.n + Gptq::kTileRows - 1) / Gptq::kTileRows;
  RETURN_IF_ERROR(ForRows(team_, tiles, [&](int64_t tile, int worker) -> Status {
    const int64_t first = tile * Gptq::kTileRows, rows = std::min(Gptq::kTileRows, job.n - first);
    std::vector<float> w(static_cast<size_t>(rows * k)), row(static_cast<size_t>(k));
    std::vector<GroupRow> out;
    for (int64_t r = 0; r < rows; ++r) {
      RETURN_IF_ERROR(source.ReadRow(first + r, w.data() + r * k));
      out.push_back({rounded.codes.data() + (first + r) * k, rounded.scales.data() + (first + r) * k / group});
      if (!gptq_) RoundRow(w.data() + r * k, k, group, out.back());
    }
    if (gptq_) gptq_->Quantize(w.data(), rows, group, out.data());
    for (int64_t r = 0; r < rows; ++r) {
      RETURN_IF_ERROR(Unpack(job.name, first + r, group, out[static_cast<size_t>(r)], &row));
      losses[static_cast<size_t>(worker)].Add(w.data() + r * k, row, outputs_ ? &*outputs_ : nullptr);
    }
    return OkStatus();
  }));
  RoundingLoss::Report(losses, outputs_.has_value(), error);
  return rounded;
}

}  // namespace tiercel::quantize
