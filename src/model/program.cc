#include "model/program.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"
#include "platform/buffer.h"

namespace tiercel::model {

using kernels::AttentionArgs;
using kernels::EmbedArgs;
using kernels::Epilogue;
using kernels::MatmulArgs;
using kernels::QkNormRopeArgs;
using kernels::QuantizeArgs;
using kernels::QuantizedRows;
using kernels::QuantMatmulArgs;
using kernels::RmsNormArgs;
using kernels::RopeTableArgs;
using kernels::SwiGluArgs;

namespace {

// The rows of worker `worker`, where each has its own.
QuantizedRows RowsOf(QuantizedRows rows, const OwnRows& own, int worker) {
  if (rows.data != nullptr) rows.data += worker * own.quantized;
  if (rows.row_scale != nullptr) rows.row_scale += worker * own.row_scale;
  return rows;
}

}  // namespace

// What one worker does at each kind of operator.
struct Program::Replayer {
  const kernels::KernelTable& kernels;
  platform::WorkerTeam& team;
  int worker;
  Share share;

  void operator()(const BarrierOp& op) const {
    if (op.worker_bytes == 0) return team.Barrier();
    const PackedMatrix& w = *op.next;
    const Range columns = w.ColumnRange(worker);
    const int64_t column_bytes = w.k_padded * static_cast<int64_t>(SizeOf(w.dtype));
    const char* at = static_cast<const char*>(w.data) + columns.begin * column_bytes;
    const char* const end = at + std::min(op.worker_bytes, columns.size() * column_bytes);
    team.Barrier([&] {
      constexpr int64_t kLine = 64, kLines = 8;  // a look at the barrier every 512 bytes
      for (int64_t i = 0; i < kLines; ++i) __builtin_prefetch(at + i * kLine, 0, 2);  // into L2
      at += kLines * kLine;
      return at < end;
    });
  }
  void operator()(const FetchOp& op) const {
    if (worker != 0) return;
    platform::Buffer::WillNeed(op.next.data(), op.next.size());
    platform::Buffer::LetGo(op.done.data(), op.done.size());
  }
  void operator()(const EmbedArgs& args) const { kernels.embed(args, share); }
  void operator()(const RopeTableArgs& args) const { kernels.rope_table(args, share); }
  void operator()(const RmsNormOp& op) const {
    if (!op.on_each_worker) return kernels.rms_norm(op.args, share);
    RmsNormArgs args = op.args;
    if (args.out != nullptr) args.out += worker * op.own.bf16;
    args.quantized = RowsOf(args.quantized, op.own, worker);
    kernels.rms_norm(args, Share{0, 1});
  }
  void operator()(const QuantizeOp& op) const {
    if (!op.on_each_worker) return kernels.quantize(op.args, share);
    QuantizeArgs args = op.args;
    args.x += worker * op.x_worker_stride;
    args.out = RowsOf(args.out, op.own, worker);
    kernels.quantize(args, Share{0, 1});
  }
  void operator()(const QuantMatmulOp& op) const {
    QuantMatmulArgs args = op.args;
    args.x += worker * op.own.quantized;
    if (args.row_scale != nullptr) args.row_scale += worker * op.own.row_scale;
    kernels.quant_matmul(args, share);
  }
  void operator()(const SwiGluArgs& args) const { kernels.swiglu(args, share); }
  void operator()(const MatmulOp& op) const {
    MatmulArgs args = op.args;
    args.x += worker * op.x_worker_stride;
    kernels.matmul(args, share);
  }
  void operator()(const QkNormRopeArgs& args) const { kernels.qk_norm_rope(args, share); }
  void operator()(const AttentionOp& op) const {
    AttentionArgs args = op.args;
    args.scratch = static_cast<std::byte*>(args.scratch) + worker * op.scratch_worker_bytes;
    kernels.attention(args, share);
  }
  void operator()(const GatherRowsArgs& args) const {
    const Range rows = SplitRange(args.rows, 1, share);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      std::copy_n(args.x + args.row_index[r] * args.width, args.width, args.out + r * args.width);
    }
  }
};

void Program::Clear() { operators_.clear(); }

void Program::Fetch(std::span<const std::byte> next, std::span<const std::byte> done) {
  if (!next.empty() || !done.empty()) operators_.emplace_back(FetchOp{next, done});
}

void Program::Embed(const EmbedArgs& args) {
  CHECK((args.table != nullptr) != (args.packed != nullptr));
  CHECK_GT(args.rows, 0);
  operators_.emplace_back(args);
}

void Program::RopeTable(const RopeTableArgs& args) {
  CHECK_GT(args.rows, 0);
  operators_.emplace_back(args);
}

void Program::RmsNorm(const RmsNormArgs& args) {
  CHECK_GT(args.rows, 0);
  CHECK(args.weight != nullptr);
  const bool stores = args.out != nullptr || args.out_f32 != nullptr;
  CHECK(stores || args.quantized.data != nullptr);
  CHECK(!stores || args.ldo >= args.hidden);
  CHECK(args.quantized.data == nullptr || args.quantized.ld >= args.hidden);
  operators_.emplace_back(RmsNormOp{args});
}

void Program::RmsNormOnEachWorker(const RmsNormArgs& args, const OwnRows& own) {
  RmsNorm(args);
  CHECK(args.out_f32 == nullptr);  // its rows are shared
  CHECK(args.out == nullptr || own.bf16 >= args.rows * args.ldo);
  CHECK(args.quantized.data == nullptr || own.quantized >= args.rows * args.quantized.ld);
  CHECK(args.quantized.row_scale == nullptr || own.row_scale >= args.rows);
  operators_.back() = RmsNormOp{args, true, own};
}

void Program::Quantize(const QuantizeArgs& args) {
  CHECK_GT(args.rows, 0);
  CHECK_GE(args.ldx, args.n);
  CHECK_GE(args.out.ld, args.n);
  operators_.emplace_back(QuantizeOp{args});
}

void Program::QuantizeOnEachWorker(const QuantizeArgs& args, int64_t x_worker_stride,
                                   const OwnRows& own) {
  Quantize(args);
  CHECK_GE(own.quantized, args.rows * args.out.ld);
  CHECK(args.out.row_scale == nullptr || own.row_scale >= args.rows);
  operators_.back() = QuantizeOp{args, true, x_worker_stride, own};
}

void Program::Matmul(const MatmulArgs& args, int64_t x_worker_stride) {
  const PackedMatrix& w = *args.weight;
  CHECK_GT(args.rows, 0);
  CHECK_GE(args.ldx, w.k);
  CHECK_GE(args.ldo, args.epilogue == Epilogue::kSwiGlu ? w.n / 2 : w.n);
  CHECK((args.epilogue == Epilogue::kStoreF32 ? static_cast<void*>(args.out_f32)
                                              : static_cast<void*>(args.out)) != nullptr);
  CHECK(args.epilogue != Epilogue::kAdd || args.residual != nullptr);
  // Gate and up columns alternate by 16: a worker's range must hold whole pairs.
  CHECK(args.epilogue != Epilogue::kSwiGlu || w.granule % (2 * kColumnGroup) == 0);
  operators_.emplace_back(MatmulOp{args, x_worker_stride});
}

void Program::QuantMatmul(const QuantMatmulArgs& args, const OwnRows& own) {
  const PackedMatrix& w = *args.weight;
  CHECK_GT(args.rows, 0);
  CHECK(w.dtype == DType::kI8);
  CHECK_GE(args.ldx, w.k);
  CHECK(args.acc_bias != nullptr && args.scale != nullptr);
  const int64_t width = args.epilogue == Epilogue::kSwiGlu ? w.n / 2 : w.n;
  if (args.quantized.data != nullptr) {
    CHECK(args.epilogue == Epilogue::kStore || args.epilogue == Epilogue::kSwiGlu);
    CHECK_GE(args.quantized.ld, width);
    CHECK(args.quantized.row_scale == nullptr);
  } else {
    CHECK_GE(args.ldo, width);
    CHECK((args.epilogue == Epilogue::kStoreF32 ? static_cast<void*>(args.out_f32)
                                                : static_cast<void*>(args.out)) != nullptr);
  }
  CHECK(args.epilogue != Epilogue::kAdd || args.residual != nullptr);
  CHECK(args.epilogue != Epilogue::kSwiGlu || w.granule % (2 * kColumnGroup) == 0);
  operators_.emplace_back(QuantMatmulOp{args, own});
}

void Program::SwiGlu(const SwiGluArgs& args) {
  CHECK_GT(args.rows, 0);
  CHECK_GE(args.ldx, 2 * args.n);
  CHECK_GE(args.ldo, args.n);
  operators_.emplace_back(args);
}

void Program::QkNormRope(const QkNormRopeArgs& args) {
  CHECK_GT(args.rows, 0);
  CHECK_EQ(args.num_q_heads % args.layout.num_kv_heads, 0);
  CHECK_GE(args.ldqkv, (args.num_q_heads + 2 * args.layout.num_kv_heads) * args.layout.head_dim);
  operators_.emplace_back(args);
}

void Program::Attention(const AttentionArgs& args, int64_t scratch_worker_bytes) {
  CHECK_GT(args.num_seqs, 0);
  const int64_t width = int64_t{args.num_q_heads} * args.layout.head_dim;
  CHECK((args.out != nullptr) != (args.quantized.data != nullptr));
  CHECK(args.quantized.row_scale == nullptr);
  CHECK_GE(args.out != nullptr ? args.ldo : args.quantized.ld, width);
  operators_.emplace_back(AttentionOp{args, scratch_worker_bytes});
}

void Program::GatherRows(const GatherRowsArgs& args) {
  CHECK_GT(args.rows, 0);
  operators_.emplace_back(args);
}

void Program::Barrier(const PackedMatrix* next, int64_t bytes) {
  BarrierOp op;
  if (next != nullptr) op = {next, bytes / next->workers};
  operators_.emplace_back(op);
}

void Program::Replay(const kernels::KernelTable& kernels, platform::WorkerTeam& team,
                     int worker) const {
  const Replayer replayer{kernels, team, worker, Share{worker, team.size()}};
  for (const Operator& op : operators_) std::visit(replayer, op);
}

int64_t Program::num_barriers() const {
  return std::count_if(operators_.begin(), operators_.end(), [](const Operator& op) {
    return std::holds_alternative<BarrierOp>(op);
  });
}

}  // namespace tiercel::model
