// For tests of matmuls: one with any epilogue, run by all workers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/bf16.h"
#include "kernels/guarded_buffer.h"
#include "kernels/ops.h"
#include "kernels/rank_parts_test_util.h"

namespace tiercel::kernels {

// The output as floats; BF16 ones widened. `args` has its inputs, from row `first_row` of the problem on.
template <typename Args, typename Problem>
std::vector<float> RunWithEpilogue(void (*matmul)(const Args&, Share), Args args, const Problem& p, int64_t first_row,
                                   int64_t rows, Epilogue epilogue, bool with_bias) {
  const int64_t columns = epilogue == Epilogue::kSwiGlu ? p.n / 2 : p.n;
  const int64_t element = epilogue == Epilogue::kStoreF32 ? 4 : 2;
  GuardedBuffer out(rows * columns * element);
  args.weight = &p.matrix;
  args.bias = with_bias ? p.bias.data() : nullptr;
  args.epilogue = epilogue;
  args.out = out.template as<BF16>();
  args.out_f32 = out.template as<float>();
  args.ldo = columns;
  args.rows = rows;
  const ThreeRanks ranks(first_row, rows, columns);
  args.parts = ranks.view();
  if (epilogue == Epilogue::kAdd || epilogue == Epilogue::kAddParts) {
    args.residual = args.out;
    std::copy_n(p.residual.begin() + first_row * columns, rows * columns, args.out);
  }
  for (int worker = 0; worker < p.matrix.workers; ++worker) matmul(args, {worker, p.matrix.workers});
  std::vector<float> result;
  for (int64_t i = 0; i < rows * columns; ++i) {
    result.push_back(element == 4 ? out.template as<float>()[i] : ToFloat(out.template as<BF16>()[i]));
  }
  return result;
}

}  // namespace tiercel::kernels
