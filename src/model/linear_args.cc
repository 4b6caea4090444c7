#include "model/linear_args.h"

#include "base/check.h"

namespace tiercel::model {
namespace {

using kernels::Epilogue;

// What both kinds of matmuls have in common.
template <typename Args>
Args Common(const LinearArgs& a) {
  Args args;
  args.weight = &a.linear.weight;
  args.bias = a.linear.bias_data();
  args.epilogue = a.epilogue;
  const int64_t first = a.range.begin * a.out.stride;
  if (a.out.data != nullptr) args.out = a.out.data + first;
  if (a.out.f32 != nullptr) args.out_f32 = a.out.f32 + first;
  const bool adds = a.epilogue == Epilogue::kAdd || a.epilogue == Epilogue::kAddParts;
  args.residual = adds ? args.out : nullptr;
  args.parts = a.out.parts;
  args.parts.offset += a.range.begin * a.out.parts.ld;
  args.ldo = a.out.stride;
  args.rows = a.range.size();
  return args;
}

}  // namespace

int64_t LinearArgs::OutputWidth() const {
  return epilogue == Epilogue::kSwiGlu ? linear.weight.n / 2 : linear.weight.n;
}

void LinearArgs::Check() const {
  const PackedMatrix& w = linear.weight;
  CHECK_GT(rows, 0);
  CHECK(range.begin >= 0 && range.begin <= range.end && range.end <= rows);
  CHECK((epilogue == Epilogue::kAddParts) == (out.parts.count > 0));
  CHECK(out.parts.count == 0 || out.parts.ld >= OutputWidth());
  CHECK((linear.takes_bytes() ? static_cast<void*>(x.quantized.data) : static_cast<void*>(x.rows.data)) !=
        nullptr);
  CHECK((linear.input.kind == checkpoint::InputKind::kBlocks || linear.input.kind == checkpoint::InputKind::kBF16ForFp8) == (w.strips != nullptr));
  CHECK(linear.takes_bytes() || x.rows.stride >= w.k);
  // Gate and up columns alternate by 16: a worker's range must hold whole pairs.
  CHECK(epilogue != Epilogue::kSwiGlu || w.granule % (2 * kColumnGroup) == 0);
  if (out.quantized.data != nullptr) {
    CHECK(linear.is_int8());
    CHECK(epilogue == Epilogue::kStore || epilogue == Epilogue::kSwiGlu);
    CHECK_GE(out.quantized.ld, OutputWidth());
    CHECK(out.quantized.row_scale == nullptr);
    CHECK(range.begin == 0);
  } else {
    CHECK_GE(out.stride, OutputWidth());
    CHECK((epilogue == Epilogue::kStoreF32 ? static_cast<void*>(out.f32)
                                           : static_cast<void*>(out.data)) != nullptr);
  }
}

kernels::MatmulArgs LinearArgs::Matmul() const {
  auto args = Common<kernels::MatmulArgs>(*this);
  args.x = x.rows.data + range.begin * x.rows.stride;
  args.ldx = x.rows.stride;
  return args;
}

kernels::QuantMatmulArgs LinearArgs::QuantMatmul() const {
  auto args = Common<kernels::QuantMatmulArgs>(*this);
  args.ldx = QuantizedStride(linear.weight.k, linear.input.kind);
  args.x = x.quantized.data + range.begin * args.ldx;
  args.acc_bias = linear.acc_bias.data();
  args.scale = linear.scale.data();
  if (linear.input.kind == checkpoint::InputKind::kPerToken) args.row_scale = x.quantized.row_scale + range.begin;
  args.quantized = out.quantized;
  return args;
}

kernels::BlockMatmulArgs LinearArgs::BlockMatmul() const {
  auto args = Common<kernels::BlockMatmulArgs>(*this);
  args.ldx = QuantizedStride(linear.weight.k, checkpoint::InputKind::kBlocks) / static_cast<int64_t>(sizeof(kernels::QuantizedBlock));
  args.x = reinterpret_cast<const kernels::QuantizedBlock*>(x.quantized.data) + range.begin * args.ldx;
  return args;
}

}  // namespace tiercel::model
