// How near two models' logits are.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace tiercel::parity {

// Of all rows taken as one vector. One token's own is lower at times: where an input lies near the
// border of two INT8 steps, rounding activations to BF16 decides the step, in a formula as well as
// in a model.
inline double Cosine(const std::vector<std::vector<float>>& a,
                     const std::vector<std::vector<float>>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t t = 0; t < a.size(); ++t) {
    for (size_t i = 0; i < a[t].size(); ++i) {
      ab += double{a[t][i]} * b[t][i];
      aa += double{a[t][i]} * a[t][i];
      bb += double{b[t][i]} * b[t][i];
    }
  }
  return ab / std::sqrt(aa * bb);
}

}  // namespace tiercel::parity
