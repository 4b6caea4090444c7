#include "quantize/group_rounding.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "quantize/smoothing.h"

namespace tiercel::quantize {
namespace {

// Sums of squares over rows.
struct Losses {
  double lost = 0, norm = 0, output_lost = 0, output_norm = 0;
};

// What a row loses as `out`; the error: it is not finite.
Status AddLoss(const std::string& name, int64_t r, std::span<const float> w, int64_t group, const GroupRow& out,
               const OutputNorm* outputs, Losses* losses) {
  std::vector<float> difference(w.size());
  for (size_t i = 0; i < w.size(); ++i) {
    const float scale = ToFloat(out.scales[static_cast<int64_t>(i) / group]);
    if (!std::isfinite(scale)) return InvalidArgument("{}.weight: row {} has values that are not finite", name, r);
    difference[i] = w[i] - scale * static_cast<float>(out.codes[i]);
    losses->lost += double{difference[i]} * double{difference[i]};
    losses->norm += double{w[i]} * double{w[i]};
  }
  if (outputs == nullptr) return OkStatus();
  losses->output_lost += outputs->Square(difference.data());
  losses->output_norm += outputs->Square(w.data());
  return OkStatus();
}

double Relative(double lost, double norm) { return norm > 0 ? std::sqrt(lost / norm) : 0; }

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
  std::vector<Losses> losses(static_cast<size_t>(team_->size()));
  const int64_t tiles = (job.n + Gptq::kTileRows - 1) / Gptq::kTileRows;
  RETURN_IF_ERROR(ForRows(team_, tiles, [&](int64_t tile, int worker) -> Status {
    const int64_t first = tile * Gptq::kTileRows, rows = std::min(Gptq::kTileRows, job.n - first);
    std::vector<float> w(static_cast<size_t>(rows * k));
    std::vector<GroupRow> out;
    for (int64_t r = 0; r < rows; ++r) {
      RETURN_IF_ERROR(source.ReadRow(first + r, w.data() + r * k));
      out.push_back({rounded.codes.data() + (first + r) * k, rounded.scales.data() + (first + r) * k / group});
      if (!gptq_) RoundRow(w.data() + r * k, k, group, out.back());
    }
    if (gptq_) gptq_->Quantize(w.data(), rows, group, out.data());
    for (int64_t r = 0; r < rows; ++r) {
      RETURN_IF_ERROR(AddLoss(job.name, first + r, {w.data() + r * k, static_cast<size_t>(k)}, group,
                              out[static_cast<size_t>(r)], outputs_ ? &*outputs_ : nullptr,
                              &losses[static_cast<size_t>(worker)]));
    }
    return OkStatus();
  }));
  Losses all;
  for (const Losses& l : losses) {
    all.lost += l.lost;
    all.norm += l.norm;
    all.output_lost += l.output_lost;
    all.output_norm += l.output_norm;
  }
  error->error = Relative(all.lost, all.norm);
  if (outputs_) error->output_error = Relative(all.output_lost, all.output_norm);
  return rounded;
}

}  // namespace tiercel::quantize
