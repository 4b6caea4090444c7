// Program: one forward pass as a flat list of operators with fixed buffers.
//
// The model records it (model/qwen3.cc); every worker of the team then replays the whole list and
// meets the others at the recorded barriers only. Recording CHECKs the operators' shapes once;
// replaying allocates nothing, locks nothing and calls nothing virtual. What changes from step to
// step lies in the buffers; row and sequence counts are bound at recording.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "kernels/ops.h"
#include "platform/worker_team.h"

namespace tiercel::model {

// out[r, :] = x[row_index[r], :]
struct GatherRowsArgs {
  const BF16* x = nullptr;             // [*, width]
  const int32_t* row_index = nullptr;  // [rows]
  BF16* out = nullptr;                 // [rows, width]
  int64_t width = 0;
  int64_t rows = 0;
};

// How far a worker's own rows lie from those of the worker before it, in elements; 0: shared.
struct OwnRows {
  int64_t bf16 = 0;
  int64_t quantized = 0;
  int64_t row_scale = 0;
};

class Program {
 public:
  // Forgets the operators and keeps the memory, so that recording anew does not allocate.
  void Clear();

  void Embed(const kernels::EmbedArgs& args);
  void RopeTable(const kernels::RopeTableArgs& args);
  // Rows are shared out among the workers.
  void RmsNorm(const kernels::RmsNormArgs& args);
  // Every worker computes all rows, worker i into its own buffers, `own` away from each other: no
  // barrier is needed before the same worker reads them.
  void RmsNormOnEachWorker(const kernels::RmsNormArgs& args, const OwnRows& own);
  // The same of a quantization; worker i reads args.x + i · x_worker_stride elements.
  void Quantize(const kernels::QuantizeArgs& args);
  void QuantizeOnEachWorker(const kernels::QuantizeArgs& args, int64_t x_worker_stride,
                            const OwnRows& own);
  // Worker i reads args.x + i · x_worker_stride elements.
  void Matmul(const kernels::MatmulArgs& args, int64_t x_worker_stride = 0);
  // Worker i reads args.x and args.row_scale as far from the first worker's as `own` says.
  void QuantMatmul(const kernels::QuantMatmulArgs& args, const OwnRows& own = {});
  // Rows are shared out among the workers.
  void SwiGlu(const kernels::SwiGluArgs& args);
  void QkNormRope(const kernels::QkNormRopeArgs& args);
  // Worker i gets args.scratch + i · scratch_worker_bytes.
  void Attention(const kernels::AttentionArgs& args, int64_t scratch_worker_bytes);
  // Rows are shared out among the workers.
  void GatherRows(const GatherRowsArgs& args);
  // What was written before is visible to every worker after. A worker that waits meanwhile asks for
  // the first bytes of its columns of `next`, its share of `bytes`, to come to its cache.
  void Barrier(const PackedMatrix* next = nullptr, int64_t bytes = 0);
  // Weights on disk: those of `next` begin to come, those of `done` need no memory any more.
  void Fetch(std::span<const std::byte> next, std::span<const std::byte> done);

  // Called by every worker of the team at once, from within WorkerTeam::Run.
  void Replay(const kernels::KernelTable& kernels, platform::WorkerTeam& team, int worker) const;

  int64_t size() const { return static_cast<int64_t>(operators_.size()); }
  int64_t num_barriers() const;

 private:
  struct BarrierOp {
    const PackedMatrix* next = nullptr;
    int64_t worker_bytes = 0;  // 0: no prefetch
  };
  struct FetchOp {
    std::span<const std::byte> next, done;
  };
  struct RmsNormOp {
    kernels::RmsNormArgs args;
    bool on_each_worker = false;
    OwnRows own = {};
  };
  struct QuantizeOp {
    kernels::QuantizeArgs args;
    bool on_each_worker = false;
    int64_t x_worker_stride = 0;
    OwnRows own = {};
  };
  struct QuantMatmulOp {
    kernels::QuantMatmulArgs args;
    OwnRows own = {};
  };
  struct MatmulOp {
    kernels::MatmulArgs args;
    int64_t x_worker_stride = 0;
  };
  struct AttentionOp {
    kernels::AttentionArgs args;
    int64_t scratch_worker_bytes = 0;
  };
  using Operator = std::variant<BarrierOp, FetchOp, kernels::EmbedArgs, kernels::RopeTableArgs, RmsNormOp,
                                QuantizeOp, MatmulOp, QuantMatmulOp, kernels::SwiGluArgs,
                                kernels::QkNormRopeArgs, AttentionOp, GatherRowsArgs>;
  struct Replayer;

  std::vector<Operator> operators_;
};

}  // namespace tiercel::model
