// Program: one forward pass as a flat list of operators with fixed buffers.
//
// The model records it (model/qwen3.cc); every worker of the team then replays the whole list. Each
// operator declares what it touches (model/access.h), and recording puts a barrier before one that
// conflicts with another since the last barrier: nowhere else do the workers meet. Where ranks share memory,
// an operator declares what all of them touch, and the barrier is one of all ranks. Recording CHECKs the
// operators' shapes once; replaying allocates nothing, locks nothing and calls nothing virtual. What
// changes from step to step lies in the buffers; row and sequence counts are bound at recording.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "comm/collectives.h"
#include "kernels/ops.h"
#include "model/access.h"
#include "model/linear_args.h"
#include "model/rank.h"
#include "platform/worker_team.h"

namespace tiercel::model {

// out[r, :] = x[row_index[r], :], or x[r, :] without an index
struct GatherRowsArgs {
  const BF16* x = nullptr;  // [x_rows, width]
  int64_t x_rows = 0;
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
  bool any() const { return bf16 > 0 || quantized > 0; }
};

// Worker i gets AttentionArgs::scratch + i · scratch_worker_bytes.
struct AttentionMemory {
  int64_t scratch_worker_bytes = 0;
  int64_t partials_bytes = 0;  // of all the workers
};

// Who computes an operator's rows, where there are ranks.
enum class Who : uint8_t {
  kEach,    // every rank all of them
  kOwners,  // every rank those that it owns (comm::OwnedBy)
  kFirst,   // the first rank
};

// Of several ranks: how many rows this one norms, and how much it reads that others have computed.
struct RankCounts {
  int64_t norm_rows = 0;
  int64_t bytes_of_others = 0;
  // Of this process, to others.
  int64_t messages = 0, bytes_sent = 0;
};

class Program {
 public:
  // What was written before is visible to every worker after. One that waits meanwhile asks for the first
  // bytes of its columns of the weights that are multiplied next, to come to its cache.
  struct Barrier {
    const PackedMatrix* next = nullptr;
    int64_t worker_bytes = 0;  // 0: no prefetch
    bool of_ranks = false;     // all ranks meet, not the workers of one
    // Between processes, what comes from others and goes to them, and what is added up before: entries of the Program's
    // lists.
    int32_t first_transfer = 0, sends = 0, receives = 0;
    int32_t first_sum = 0, sums = 0;

    bool crosses() const { return sends + receives > 0; }
  };

  // Forgets what was recorded and keeps the memory, so that recording anew does not allocate. `any` is a worker's share
  // of the rank that will replay, whose workers divide every operator alike; its bounds and `ranks` (null: there is one)
  // outlive the program. Called before the first operator.
  void Begin(Share any, Rank rank = {}, const RankBuffers* ranks = nullptr);

  void Embed(const kernels::EmbedArgs& args, Who who = Who::kEach);
  void RopeTable(const kernels::RopeTableArgs& args);
  // Rows are shared out among the workers; or with `own` every worker computes all of them, each into its
  // own copy: few rows cost less than the barrier before another worker may read them.
  void RmsNorm(const kernels::RmsNormArgs& args, const OwnRows& own = {}, Who who = Who::kEach);
  // The same; worker i reads args.x + i · x_worker_stride elements.
  void Quantize(const kernels::QuantizeArgs& args, const OwnRows& own = {},
                int64_t x_worker_stride = 0);
  // Columns are shared out among the workers as the weights are packed. Worker i reads its own copy of the
  // input, where each has one.
  void Linear(const LinearArgs& args);
  // Rows are shared out among the workers.
  void SwiGlu(const kernels::SwiGluArgs& args);
  void QkNormRope(const kernels::QkNormRopeArgs& args);
  // Of `rows` rows in all.
  void Attention(const kernels::AttentionArgs& args, int64_t rows, const AttentionMemory& memory);
  // Rows are shared out among the workers.
  void GatherRows(const GatherRowsArgs& args, Who who = Who::kEach);
  // The sum of what the ranks have computed.
  void AddParts(const kernels::AddPartsArgs& args, Who who);
  // Weights on disk: those of `next` begin to come, those of `done` need no memory any more.
  void Fetch(std::span<const std::byte> next, std::span<const std::byte> done);
  // Rows go to the stage behind, or come from the one before, at the next Meet: those that this process's ranks own, or
  // (kEach) all of them, which every rank has for itself.
  void SendRows(const Region& region, Who who);
  void ReceiveRows(const Region& region, Who who);
  // All ranks of this process meet, and what was to cross does.
  void Meet() { MeetRanks(); }
  // Each rank has, as if it had written them, the rows of a region that it owns.
  void Received(const Region& region);
  // What lies there is for every worker, of every rank of the first process, to read once it has replayed the
  // whole list. `columns`: each rank of the last stage has written its own of the logits' columns.
  void Publish(const Region& region, bool columns);

  // Called by every worker of the team at once, from within WorkerTeam::Run, each rank with its own program
  // and workers counted from 0. Programs of several ranks were recorded alike.
  void Replay(const kernels::KernelTable& kernels, platform::WorkerTeam& team, int worker) const;

  int64_t size() const { return static_cast<int64_t>(operators_.size()); }
  int64_t num_barriers() const;
  const RankCounts& counts() const { return counts_; }
  // "embed rope_table | rms_norm matmul …", with a bar for a barrier.
  std::string ToString() const;
  // For who replays in an order of their own: entry `i` of the list is a barrier, or null; then Execute
  // does one worker's part of the operator.
  const Barrier* barrier(int64_t i) const { return std::get_if<Barrier>(&operators_[i]); }
  void Execute(int64_t i, const kernels::KernelTable& kernels, int worker) const;

 private:
  struct FetchOp {
    std::span<const std::byte> next, done;
  };
  struct RmsNormOp {
    kernels::RmsNormArgs args;
    OwnRows own;
  };
  struct QuantizeOp {
    kernels::QuantizeArgs args;
    OwnRows own;
    int64_t x_worker_stride = 0;
  };
  struct QuantMatmulOp {
    kernels::QuantMatmulArgs args;
    int64_t x_worker_stride = 0;
    int64_t scale_worker_stride = 0;
  };
  struct BlockMatmulOp {
    kernels::BlockMatmulArgs args;
    int64_t x_worker_stride = 0;  // blocks
  };
  struct MatmulOp {
    kernels::MatmulArgs args;
    int64_t x_worker_stride = 0;
    bool fp8 = false;  // the weights are
  };
  struct AttentionOp {
    kernels::AttentionArgs args;
    int64_t scratch_worker_bytes = 0;
  };
  using Operator =
      std::variant<Barrier, FetchOp, kernels::EmbedArgs, kernels::RopeTableArgs, RmsNormOp, QuantizeOp,
                   MatmulOp, QuantMatmulOp, BlockMatmulOp, kernels::SwiGluArgs, kernels::QkNormRopeArgs, AttentionOp,
                   GatherRowsArgs, kernels::AddPartsArgs>;
  struct Name;
  struct Worker;

  void Meet(const Barrier& op, const kernels::KernelTable& kernels, platform::WorkerTeam& team, int worker) const;
  // A worker's part of the sums that cross at this barrier.
  void AddUp(const Barrier& op, const kernels::KernelTable& kernels, int worker) const;
  // What crosses at this barrier. By the first worker of the process's first rank.
  void Exchange(const Barrier& op) const;

  // The rows of `rows` that this rank computes.
  Range RowsFor(Who who, int64_t rows) const;
  // Of memory that the ranks share what all of them touch; of other memory nothing.
  RankAccess AmongRanks(const Region& region, Who who, bool writes);
  // The same where they read what each has computed of these rows, for the sum of `own_rows`.
  // `own`: each of its own rows alone.
  RankAccess ReadsParts(const kernels::RankParts& parts, int64_t rows, int64_t n, int64_t own_rows, bool own);
  // A barrier of all ranks: whatever was touched before it, by whichever of them, is done.
  void MeetRanks();
  // Whether other processes have ranks, too.
  bool HasPeers() const { return ranks_ != nullptr && ranks_->transport != nullptr; }
  // What was written and has not crossed yet, and one of these accesses meets, crosses at the next barrier of all
  // ranks, which must come now if this returns true.
  bool Cross(std::initializer_list<RankAccess> accesses);
  bool IsUncrossed(const Region& region) const;
  comm::Transfer RowsOfStage(int peer, const Region& region, Who who) const;
  void CrossRows(const Region& region);
  void CrossCopies(const Region& region, bool own_rows);
  void CrossSums(const Region& region, bool own_rows);
  void CrossLogits(const Region& region, bool columns);
  // Adds a barrier if one of the accesses conflicts with one since the last barrier, and notes them.
  void Declare(std::initializer_list<Access> accesses, std::initializer_list<RankAccess> of_ranks = {});
  // The barriers that nothing computes with weights after may prefetch those of `weight`.
  void Prefetch(const PackedMatrix& weight, int64_t bytes);
  // Rows that the workers share out, or of which with `own` > 0 each writes its own copy, so many elements
  // behind that of the worker before it.
  template <typename T>
  Access WritesRows(T* data, int64_t rows, int64_t stride, int64_t width, int64_t own) const {
    return own > 0 ? Writes(OwnCopies(data, own), Division::Own())
                   : Writes(RegionOf(data, rows, stride, width), Division::Rows());
  }
  // Rows of which every worker reads all, or with `own` > 0 its own copy.
  template <typename T>
  Access ReadsAll(const T* data, int64_t rows, int64_t stride, int64_t width, int64_t own) const {
    return own > 0 ? Reads(OwnCopies(data, own), Division::Own())
                   : Reads(RegionOf(data, rows, stride, width), Division::All());
  }
  template <typename T>
  Region OwnCopies(const T* data, int64_t own) const {
    return RegionOf(data, workers_, own, own);
  }

  Share ShareOf(int worker) const { return {worker, workers_, bounds_}; }

  int workers_ = 0;
  const int32_t* bounds_ = nullptr;  // of their Shares
  Rank rank_;
  std::vector<Operator> operators_;
  const RankBuffers* ranks_ = nullptr;
  RankCounts counts_;
  std::vector<Access> since_barrier_;
  std::vector<RankAccess> since_ranks_met_;
  std::vector<RankAccess> uncrossed_;  // written, and not sent to other processes yet
  std::vector<comm::Transfer> sends_, receives_;   // at the next barrier of all ranks
  std::vector<comm::Transfer> transfers_;          // of the barriers before, sends first
  std::vector<kernels::AddPartsArgs> new_sums_, sums_;  // likewise
  size_t since_weights_ = 0;  // operators_ from here on: neither a matmul nor an attention
};

}  // namespace tiercel::model
