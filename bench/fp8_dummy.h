// Fp8Dummy: random weights whose linears are FP8, for their speed alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "checkpoint/block_row.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/matrix_view.h"

namespace tiercel {

struct Fp8DummyMatrix {
  int64_t n = 0, k = 0;
};

class Fp8Dummy final : public checkpoint::MatrixView<Fp8DummyMatrix> {
 public:
  // `dummy` has the shapes, and what is not FP8.
  explicit Fp8Dummy(std::unique_ptr<checkpoint::Checkpoint> dummy) : MatrixView(std::move(dummy), "BF16") {
    for (const std::string& name : stored().Names()) {
      if (!name.ends_with("_proj.weight")) continue;
      const auto shape = stored().Find(name)->shape;
      Add(name, {shape[0], shape[1]}, name, {});
    }
  }

 private:
  BlockFormat FormatOf(const Fp8DummyMatrix&) const override { return BlockFormat::kF8; }
  Status ReadRow(const std::string& name, const Fp8DummyMatrix&, int64_t row, float* out) const override {
    return stored().ReadRows(name, row, row + 1, out);
  }
  Status ReadBlockRow(const std::string& name, const Fp8DummyMatrix& m, int64_t row,
                      checkpoint::BlockRow* out) const override {
    out->Resize(InfoOf(BlockFormat::kF8), m.k);
    std::minstd_rand random(static_cast<uint32_t>(std::hash<std::string>{}(name) + static_cast<size_t>(row)));
    for (uint8_t& code : out->codes) code = static_cast<uint8_t>(random() % 127 + random() % 2 * 128);  // no NaN
    for (float& scale : out->float_scale) scale = 2e-4f;
    return OkStatus();
  }
};

}  // namespace tiercel
