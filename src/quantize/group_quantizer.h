// Four bits with a scale for each group of a row: W[r, i] ≈ scale[r, i / group] · code[r, i], codes −8 … 7.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/bf16.h"
#include "base/status.h"
#include "platform/worker_team.h"

namespace tiercel::quantize {

// One row, as both methods write it. `group` divides k.
struct GroupRow {
  int8_t* codes = nullptr;  // [k]
  BF16* scales = nullptr;   // [k / group]
};

// Rounds to the nearest, by the scale with which the group's largest weight in magnitude becomes −8. A row that is not
// finite gets a scale that is not.
void RoundRow(const float* w, int64_t k, int64_t group, const GroupRow& out);

// GPTQ (Frantar et al. 2023) in the order of the inputs: each input's rounding error is made up for by the inputs
// after it, so that ‖X(w − ŵ)‖ is least. It is written as Babai's nearest plane, to which it is equal: with the inputs'
// products XᵀX = R·Rᵀ, R upper triangular, input j is rounded where it stands after
//     w'[j] = w[j] + Σ_{i < j} (w[i] − ŵ[i]) · R[i, j] / R[j, j],
// which needs one factorization and no inverse. A group's scale is chosen when its first input's turn comes, for where
// its weights would stand if none of them were rounded: that with the least squared error of 21 from −w / 7 to −w / 12, w
// being the largest of them.
class Gptq {
 public:
  // Rows that go through together: the factor is read from memory once for all of them.
  static constexpr int64_t kTileRows = 64;

  // `products` are XᵀX [k, k]. `damping` · their mean diagonal is added to the
  // diagonal, ten times as much after each time that rounding has left them without a factor.
  static Expected<Gptq> Create(std::vector<float> products, int64_t k, platform::WorkerTeam* team,
                               double damping = 0.01);

  // Rows [0, rows) of w [rows, k], at most kTileRows. Called from several threads at once.
  void Quantize(const float* w, int64_t rows, int64_t group, const GroupRow* out) const;

 private:
  Gptq(std::vector<float> factor, int64_t k) : factor_(std::move(factor)), k_(k) {}

  std::vector<float> factor_;  // R[i, j] / R[j, j], j > i
  int64_t k_;
};

}  // namespace tiercel::quantize
