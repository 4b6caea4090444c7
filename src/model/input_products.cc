#include "model/input_products.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "model/packing.h"
#include "platform/buffer.h"

namespace tiercel::model {

// y = x · Wᵀ with x and W both the transposed input [k, tokens].
Status AddInputProducts(const std::vector<BF16>& x, int64_t k, kernels::Environment* environment,
                        std::vector<float>* products) {
  constexpr int64_t kRows = 256;  // of the product at a time
  const int64_t tokens = std::ssize(x) / k;
  platform::WorkerTeam& team = *environment->team;
  CHECK_EQ(std::ssize(*products), k * k);
  PackedMatrix weight{.n = (k + kColumnGroup - 1) / kColumnGroup * kColumnGroup,
                      .k = tokens,
                      .k_padded = PaddedK(tokens, DType::kBF16),
                      .workers = team.size()};
  ASSIGN_OR_RETURN(const platform::Buffer packed,
                   platform::Buffer::Allocate(static_cast<size_t>(PackedBytes(weight.n, tokens, DType::kBF16))));
  weight.data = packed.data();
  const int64_t ld = weight.k_padded;
  std::vector<BF16> transposed(static_cast<size_t>(k * ld), BF16{0});
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < k; ++i) transposed[static_cast<size_t>(i * ld + t)] = x[static_cast<size_t>(t * k + i)];
  }
  std::vector<float> part(static_cast<size_t>(std::min(k, kRows) * weight.n));
  std::vector<Status> status(static_cast<size_t>(team.size()));
  team.Run([&](int worker) {
    status[static_cast<size_t>(worker)] = PackColumns(weight, packed.data(), worker, [&](int64_t column, void* row) {
      if (column < k) {
        std::memcpy(row, transposed.data() + column * ld, static_cast<size_t>(tokens) * sizeof(BF16));
      } else {
        std::memset(row, 0, static_cast<size_t>(tokens) * sizeof(BF16));
      }
      return OkStatus();
    });
    team.Barrier();
    for (int64_t first = 0; first < k; first += kRows) {
      const int64_t rows = std::min(kRows, k - first);
      environment->kernels->matmul({.x = transposed.data() + first * ld,
                                    .ldx = ld,
                                    .weight = &weight,
                                    .epilogue = kernels::Epilogue::kStoreF32,
                                    .out_f32 = part.data(),
                                    .ldo = weight.n,
                                    .rows = rows},
                                   {worker, team.size()});
      // Each worker adds the columns that it computed.
      const Range own = weight.ColumnRange(worker);
      for (int64_t r = 0; r < rows; ++r) {
        const float* const from = part.data() + r * weight.n;
        float* const to = products->data() + (first + r) * k;
        for (int64_t c = own.begin; c < std::min(own.end, k); ++c) to[c] += from[c];
      }
    }
  });
  for (Status& s : status) RETURN_IF_ERROR(std::move(s));
  return OkStatus();
}

}  // namespace tiercel::model
