#include "model/program.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"
#include "kernels/attention_work.h"
#include "model/packing.h"
#include "platform/buffer.h"

namespace tiercel::model {

using kernels::AddPartsArgs;
using kernels::AttentionArgs;
using kernels::BlockMatmulArgs;
using kernels::EmbedArgs;
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

// The norm of the rows `range` alone.
RmsNormArgs NormOf(RmsNormArgs args, Range range) {
  args.x += range.begin * args.hidden;
  if (args.out != nullptr) args.out += range.begin * args.ldo;
  if (args.out_f32 != nullptr) args.out_f32 += range.begin * args.ldo;
  QuantizedRows& q = args.quantized;
  if (q.data != nullptr) q.data += range.begin * q.ld;
  if (q.row_scale != nullptr) q.row_scale += range.begin;
  args.rows = range.size();
  return args;
}

// Of a row of n values.
int64_t BytesOf(const QuantizedRows& rows, int64_t n) {
  return rows.blocks ? QuantizedBytes(n, checkpoint::InputKind::kBlocks) : n;
}

bool SameBounds(const int32_t* a, const int32_t* b, int workers) {
  return a == b || (a != nullptr && b != nullptr && std::equal(a, a + workers + 1, b));
}

// The columns that the workers share out as `w` is packed: those of its product, and with SwiGLU the half
// of them.
Division ColumnsOf(const PackedMatrix& w) { return Division::Columns(w.n / w.granule); }

// The rows `range` of those from `data` on.
template <typename T>
Region RowsFrom(const T* data, Range range, int64_t stride, int64_t width) {
  return RegionOf(data == nullptr ? nullptr : data + range.begin * stride, range.size(), stride, width);
}


// A layer's part of block 0 stands for its part of every block: blocks interleave the layers alike.
Region CacheOf(const void* kv, const kernels::KvLayout& layout) {
  const int64_t bytes = layout.BlockSize() * static_cast<int64_t>(SizeOf(layout.dtype));
  return RegionOf(static_cast<const std::byte*>(kv), 1, bytes, bytes);
}

}  // namespace

struct Program::Name {
  const char* operator()(const Barrier& op) const { return op.of_ranks ? "||" : "|"; }
  const char* operator()(const FetchOp&) const { return "fetch"; }
  const char* operator()(const EmbedArgs&) const { return "embed"; }
  const char* operator()(const RopeTableArgs&) const { return "rope_table"; }
  const char* operator()(const RmsNormOp&) const { return "rms_norm"; }
  const char* operator()(const QuantizeOp&) const { return "quantize"; }
  const char* operator()(const MatmulOp& op) const { return op.fp8 ? "fp8_matmul" : "matmul"; }
  const char* operator()(const QuantMatmulOp&) const { return "quant_matmul"; }
  const char* operator()(const BlockMatmulOp&) const { return "block_matmul"; }
  const char* operator()(const SwiGluArgs&) const { return "swiglu"; }
  const char* operator()(const QkNormRopeArgs&) const { return "qk_norm_rope"; }
  const char* operator()(const AttentionOp&) const { return "attention"; }
  const char* operator()(const GatherRowsArgs&) const { return "gather_rows"; }
  const char* operator()(const AddPartsArgs&) const { return "add_parts"; }
};

// What one worker does at each kind of operator.
struct Program::Worker {
  const kernels::KernelTable& kernels;
  int worker;
  Share share;

  void operator()(const Barrier&) const { CHECK_MSG(false, "nobody passes a barrier alone"); }
  void operator()(const FetchOp& op) const {
    if (worker != 0) return;
    platform::Buffer::WillNeed(op.next.data(), op.next.size());
    platform::Buffer::LetGo(op.done.data(), op.done.size());
  }
  void operator()(const EmbedArgs& args) const { kernels.embed(args, share); }
  void operator()(const RopeTableArgs& args) const { kernels.rope_table(args, share); }
  void operator()(const RmsNormOp& op) const {
    if (!op.own.any()) return kernels.rms_norm(op.args, share);
    RmsNormArgs args = op.args;
    if (args.out != nullptr) args.out += worker * op.own.bf16;
    args.quantized = RowsOf(args.quantized, op.own, worker);
    kernels.rms_norm(args, Share{0, 1});
  }
  void operator()(const QuantizeOp& op) const {
    if (!op.own.any()) return kernels.quantize(op.args, share);
    QuantizeArgs args = op.args;
    args.x += worker * op.x_worker_stride;
    args.out = RowsOf(args.out, op.own, worker);
    kernels.quantize(args, Share{0, 1});
  }
  void operator()(const QuantMatmulOp& op) const {
    QuantMatmulArgs args = op.args;
    args.x += worker * op.x_worker_stride;
    if (args.row_scale != nullptr) args.row_scale += worker * op.scale_worker_stride;
    kernels.quant_matmul(args, share);
  }
  void operator()(const BlockMatmulOp& op) const {
    BlockMatmulArgs args = op.args;
    args.x += worker * op.x_worker_stride;
    kernels.block_matmul(args, share);
  }
  void operator()(const SwiGluArgs& args) const { kernels.swiglu(args, share); }
  void operator()(const MatmulOp& op) const {
    MatmulArgs args = op.args;
    args.x += worker * op.x_worker_stride;
    (op.fp8 ? kernels.fp8_matmul : kernels.matmul)(args, share);
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
      const int64_t from = args.row_index == nullptr ? r : args.row_index[r];
      std::copy_n(args.x + from * args.width, args.width, args.out + r * args.width);
    }
  }
  void operator()(const AddPartsArgs& args) const { kernels.add_parts(args, share); }
};

void Program::Begin(Share any, Rank rank, const RankBuffers* ranks) {
  CHECK_GT(any.count, 0);
  workers_ = any.count;
  bounds_ = any.bounds;
  rank_ = rank;
  ranks_ = ranks;
  uncrossed_.clear();
  sends_.clear();
  receives_.clear();
  transfers_.clear();
  new_sums_.clear();
  sums_.clear();
  counts_ = {};
  operators_.clear();
  since_barrier_.clear();
  since_ranks_met_.clear();
  since_weights_ = 0;
}

Range Program::RowsFor(Who who, int64_t rows) const {
  switch (who) {
    case Who::kEach: break;
    case Who::kOwners: return comm::OwnedBy(rank_, rows);
    case Who::kFirst: return {0, rank_.index == 0 ? rows : 0};
  }
  return {0, rows};
}

RankAccess Program::AmongRanks(const Region& region, Who who, bool writes) {
  if (ranks_ == nullptr) return {};
  const bool shared = std::any_of(ranks_->shared.begin(), ranks_->shared.end(), [&](const Region& memory) {
    return MayOverlap(memory, region);
  });
  if (!shared) return {};
  CHECK(!writes || who != Who::kEach);  // the others would write the same
  if (who == Who::kEach) {  // all read what each has written a part of
    counts_.bytes_of_others += (region.rows - comm::OwnedBy(rank_, region.rows).size()) * region.width;
  }
  return {region, who == Who::kOwners, writes};
}

// The first rank's part stands for those of all.
RankAccess Program::ReadsParts(const kernels::RankParts& parts, int64_t rows, int64_t n, int64_t own_rows,
                               bool own) {
  if (parts.count == 0) return {};
  counts_.bytes_of_others += own_rows * n * (parts.count - 1) * static_cast<int64_t>(sizeof(float));
  return {.region = RegionOf(parts.parts[0] + parts.offset, rows, parts.ld, n), .copies = true, .own_rows = own};
}

void Program::MeetRanks() {
  operators_.emplace_back(Barrier{.of_ranks = true,
                                  .first_transfer = static_cast<int32_t>(transfers_.size()),
                                  .sends = static_cast<int32_t>(sends_.size()),
                                  .receives = static_cast<int32_t>(receives_.size()),
                                  .first_sum = static_cast<int32_t>(sums_.size()),
                                  .sums = static_cast<int32_t>(new_sums_.size())});
  for (const comm::Transfer& send : sends_) {
    ++counts_.messages;
    counts_.bytes_sent += send.bytes();
  }
  const auto move_to = [](auto* from, auto* to) {
    to->insert(to->end(), from->begin(), from->end());
    from->clear();
  };
  move_to(&sends_, &transfers_);
  move_to(&receives_, &transfers_);
  move_to(&new_sums_, &sums_);
  since_barrier_.clear();
  since_ranks_met_.clear();
}

void Program::Declare(std::initializer_list<Access> accesses, std::initializer_list<RankAccess> of_ranks) {
  const auto conflicts = [](const auto& list, const auto& before) {
    return std::any_of(list.begin(), list.end(), [&](const auto& access) {
      return std::any_of(before.begin(), before.end(),
                         [&](const auto& earlier) { return Conflict(earlier, access); });
    });
  };
  const bool crosses = Cross(of_ranks);
  if (crosses || conflicts(of_ranks, since_ranks_met_)) {
    MeetRanks();
  } else if (conflicts(accesses, since_barrier_)) {
    operators_.emplace_back(Barrier{});
    since_barrier_.clear();
  }
  for (const Access& access : accesses) {
    if (access.region.rows == 0) continue;
    CHECK_GE(access.region.stride, access.region.width);
    since_barrier_.push_back(access);
  }
  for (const RankAccess& access : of_ranks) {
    if (access.region.rows <= 0) continue;
    since_ranks_met_.push_back(access);
    if (access.writes && HasPeers() && !IsUncrossed(access.region)) uncrossed_.push_back(access);
  }
}

void Program::Prefetch(const PackedMatrix& weight, int64_t bytes) {
  for (; since_weights_ < operators_.size(); ++since_weights_) {
    auto* const barrier = std::get_if<Barrier>(&operators_[since_weights_]);
    if (barrier != nullptr) {
      barrier->next = &weight;
      barrier->worker_bytes = bytes / workers_;
    }
  }
}

void Program::Fetch(std::span<const std::byte> next, std::span<const std::byte> done) {
  if (!next.empty() || !done.empty()) operators_.emplace_back(FetchOp{next, done});
}

void Program::Embed(const EmbedArgs& all, Who who) {
  CHECK((all.table != nullptr) != (all.packed != nullptr));
  CHECK_GT(all.rows, 0);
  const Range rows = RowsFor(who, all.rows);
  EmbedArgs args = all;
  args.token_ids += rows.begin;
  args.out += rows.begin * args.hidden;
  args.rows = rows.size();
  Declare({Writes(RegionOf(args.out, args.rows, args.hidden, args.hidden), Division::Rows())},
          {AmongRanks(RegionOf(all.out, all.rows, all.hidden, all.hidden), who, true)});
  if (args.rows > 0) operators_.emplace_back(args);
}

void Program::RopeTable(const RopeTableArgs& args) {
  CHECK_GT(args.rows, 0);
  Declare({Writes(RegionOf(args.cos, args.rows, args.half, args.half), Division::Rows()),
           Writes(RegionOf(args.sin, args.rows, args.half, args.half), Division::Rows())});
  operators_.emplace_back(args);
}

void Program::RmsNorm(const RmsNormArgs& all, const OwnRows& own, Who who) {
  CHECK_GT(all.rows, 0);
  CHECK(all.weight != nullptr);
  CHECK(all.row_index == nullptr);  // where it reads would not be known
  const bool stores = all.out != nullptr || all.out_f32 != nullptr;
  CHECK(stores || all.quantized.data != nullptr);
  CHECK(!stores || all.ldo >= all.hidden);
  const int64_t width = BytesOf(all.quantized, all.hidden);
  CHECK(all.quantized.data == nullptr || all.quantized.ld >= width);
  if (own.any()) {
    CHECK(who == Who::kEach);
    CHECK(all.out_f32 == nullptr);  // its rows are shared
    CHECK(all.out == nullptr || own.bf16 >= all.rows * all.ldo);
    CHECK(all.quantized.data == nullptr || own.quantized >= all.rows * all.quantized.ld);
    CHECK(all.quantized.row_scale == nullptr || own.row_scale >= all.rows);
  }
  const RmsNormArgs args = NormOf(all, RowsFor(who, all.rows));
  const QuantizedRows& q = args.quantized;
  Declare({Reads(RegionOf(args.x, args.rows, args.hidden, args.hidden),
                 own.any() ? Division::All() : Division::Rows()),
           WritesRows(args.out, args.rows, args.ldo, args.hidden, own.bf16),
           WritesRows(args.out_f32, args.rows, args.ldo, args.hidden, 0),
           WritesRows(q.data, args.rows, q.ld, width, own.quantized),
           WritesRows(q.row_scale, args.rows, 1, 1, own.row_scale)},
          {AmongRanks(RegionOf(all.x, all.rows, all.hidden, all.hidden), who, false),
           AmongRanks(RegionOf(all.out, all.rows, all.ldo, all.hidden), who, true),
           AmongRanks(RegionOf(all.quantized.data, all.rows, q.ld, width), who, true),
           AmongRanks(RegionOf(all.quantized.row_scale, all.rows, 1, 1), who, true)});
  if (args.rows == 0) return;
  counts_.norm_rows += args.rows;
  operators_.emplace_back(RmsNormOp{args, own});
}

void Program::Quantize(const QuantizeArgs& args, const OwnRows& own, int64_t x_worker_stride) {
  CHECK_GT(args.rows, 0);
  const int64_t width = BytesOf(args.out, args.n);
  CHECK_GE(args.ldx, args.n);
  CHECK_GE(args.out.ld, width);
  CHECK(args.order == nullptr || args.out.blocks);
  if (own.any()) {
    CHECK_GE(own.quantized, args.rows * args.out.ld);
    CHECK(args.out.row_scale == nullptr || own.row_scale >= args.rows);
  }
  CHECK(own.any() || x_worker_stride == 0);
  Declare({own.any() ? ReadsAll(args.x, args.rows, args.ldx, args.n, x_worker_stride)
                     : Reads(RegionOf(args.x, args.rows, args.ldx, args.n), Division::Rows()),
           WritesRows(args.out.data, args.rows, args.out.ld, width, own.quantized),
           WritesRows(args.out.row_scale, args.rows, 1, 1, own.row_scale)},
          {AmongRanks(RegionOf(args.x, args.rows, args.ldx, args.n), Who::kEach, false)});
  operators_.emplace_back(QuantizeOp{args, own, x_worker_stride});
}

void Program::Linear(const LinearArgs& args) {
  args.Check();
  const PackedMatrix& w = args.linear.weight;
  CHECK_EQ(w.workers, workers_);
  CHECK(SameBounds(w.bounds, bounds_, workers_));
  const bool bytes = args.linear.takes_bytes(), blocks = args.linear.input.kind == checkpoint::InputKind::kBlocks;
  const int64_t q_stride = QuantizedStride(w.k, args.linear.input.kind);
  const int64_t q_width = QuantizedBytes(w.k, args.linear.input.kind);
  const bool per_token = args.linear.input.kind == checkpoint::InputKind::kPerToken;
  const Rows& x = args.x.rows;
  const QuantRows& q = args.x.quantized;
  const kernels::QuantizedRows& to = args.out.quantized;
  const int64_t width = args.OutputWidth();
  const Range range = args.range;
  const int64_t x_width = PaddedK(w.k, DType::kBF16);
  const Region x_rows = RegionOf(x.data, args.rows, x.stride, x_width);
  const Region q_rows = RegionOf(q.data, args.rows, q_stride, q_width);
  // Where it adds to what it writes, it also reads that.
  Declare({bytes ? ReadsAll(q.data, args.rows, q_stride, q_width, q.worker_stride)
                 : ReadsAll(x.data, args.rows, x.stride, x_width, x.worker_stride),
           ReadsAll(per_token ? q.row_scale : nullptr, args.rows, 1, 1, q.scale_worker_stride),
           Writes(RowsFrom(args.out.data, range, args.out.stride, width), ColumnsOf(w)),
           Writes(RowsFrom(args.out.f32, range, args.out.stride, width), ColumnsOf(w)),
           Writes(RegionOf(to.data, args.rows, to.ld, width), ColumnsOf(w))},
          {AmongRanks(bytes ? q_rows : x_rows, Who::kEach, false),
           AmongRanks(RegionOf(per_token ? q.row_scale : nullptr, args.rows, 1, 1), Who::kEach, false),
           AmongRanks(RegionOf(args.out.data, args.rows, args.out.stride, width), Who::kOwners, true),
           {RegionOf(args.out.of_first_rank, args.rows, args.out.stride, width), true, true, true},
           ReadsParts(args.out.parts, args.rows, width, range.size(), true)});
  if (range.size() == 0) return;
  Prefetch(w, args.prefetch);
  if (blocks) {
    const auto block = static_cast<int64_t>(sizeof(kernels::QuantizedBlock));
    CHECK_EQ(q.worker_stride % block, 0);
    operators_.emplace_back(BlockMatmulOp{args.BlockMatmul(), q.worker_stride / block});
  } else if (bytes) {
    operators_.emplace_back(QuantMatmulOp{args.QuantMatmul(), q.worker_stride, q.scale_worker_stride});
  } else {
    operators_.emplace_back(MatmulOp{args.Matmul(), x.worker_stride, w.strips != nullptr});
  }
}

void Program::SwiGlu(const SwiGluArgs& args) {
  CHECK_GT(args.rows, 0);
  CHECK_GE(args.ldx, 2 * args.n);
  CHECK_GE(args.ldo, args.n);
  Declare({Reads(RegionOf(args.x, args.rows, args.ldx, 2 * args.n), Division::Rows()),
           Writes(RegionOf(args.out, args.rows, args.ldo, args.n), Division::Rows())});
  operators_.emplace_back(args);
}

void Program::QkNormRope(const QkNormRopeArgs& args) {
  const kernels::KvLayout& layout = args.layout;
  const int64_t width = int64_t{args.num_q_heads + 2 * layout.num_kv_heads} * layout.head_dim;
  const int64_t half = layout.head_dim / 2;
  CHECK_GT(args.rows, 0);
  CHECK_EQ(args.num_q_heads % layout.num_kv_heads, 0);
  CHECK_GE(args.ldqkv, width);
  const Division groups = Division::Columns(layout.num_kv_heads);
  Declare({Writes(RegionOf(args.qkv, args.rows, args.ldqkv, width), groups),
           Reads(RegionOf(args.cos, args.rows, half, half), Division::All()),
           Reads(RegionOf(args.sin, args.rows, half, half), Division::All()),
           Writes(CacheOf(args.kv, layout), groups)});
  operators_.emplace_back(args);
}

void Program::Attention(const AttentionArgs& args, int64_t rows, const AttentionMemory& memory) {
  const kernels::KvLayout& layout = args.layout;
  const QuantizedRows& q = args.quantized;
  const int64_t q_width = int64_t{args.num_q_heads} * layout.head_dim;
  const int64_t width = q_width + 2 * int64_t{layout.num_kv_heads} * layout.head_dim;
  CHECK_GT(args.num_seqs, 0);
  CHECK((args.out != nullptr) != (q.data != nullptr));
  CHECK(q.row_scale == nullptr);
  CHECK_GE(args.out != nullptr ? args.ldo : q.ld, q_width);
  CHECK(args.partials == nullptr ||
        memory.partials_bytes >= kernels::AttentionPartialsBytes(args, ShareOf(0)));
  // Workers with whole KV groups keep to them, else anyone computes any part.
  const Division groups = kernels::AttentionOwnsGroups(layout.num_kv_heads, ShareOf(0))
                              ? Division::Columns(layout.num_kv_heads)
                              : Division::All();
  const auto bytes = [](const void* data) { return static_cast<const std::byte*>(data); };
  Declare({Reads(RegionOf(args.qkv, rows, args.ldqkv, width), groups),
           Reads(CacheOf(args.kv, layout), groups),
           Writes(RegionOf(args.out, rows, args.ldo, q_width), groups),
           Writes(RegionOf(q.data, rows, q.ld, q_width), groups),
           Writes(OwnCopies(bytes(args.scratch), memory.scratch_worker_bytes), Division::Own()),
           Writes(RegionOf(bytes(args.partials), 1, memory.partials_bytes, memory.partials_bytes),
                  Division::All())});
  operators_.emplace_back(AttentionOp{args, memory.scratch_worker_bytes});
  since_weights_ = operators_.size();  // what it reads would push them out of the cache
}

void Program::GatherRows(const GatherRowsArgs& all, Who who) {
  CHECK_GT(all.rows, 0);
  const Range rows = RowsFor(who, all.rows);
  GatherRowsArgs args = all;
  if (args.row_index != nullptr) args.row_index += rows.begin;
  if (args.row_index == nullptr) args.x += rows.begin * args.width;
  args.out += rows.begin * args.width;
  args.rows = rows.size();
  const Region x = RegionOf(all.x, all.x_rows, all.width, all.width);
  Declare({Reads(x, Division::All()),
           Writes(RegionOf(args.out, args.rows, args.width, args.width), Division::Rows())},
          {AmongRanks(x, Who::kEach, false),
           AmongRanks(RegionOf(all.out, all.rows, all.width, all.width), who, true)});
  if (args.rows > 0) operators_.emplace_back(args);
}

void Program::AddParts(const AddPartsArgs& all, Who who) {
  CHECK_GT(all.rows, 0);
  CHECK_GE(all.parts.ld, all.n);
  CHECK(all.residual == all.out && all.ldr == all.ldo);
  const AddPartsArgs args = comm::RowsOf(all, RowsFor(who, all.rows));
  Declare({Writes(RegionOf(args.out, args.rows, args.ldo, args.n), Division::All())},
          {ReadsParts(all.parts, all.rows, all.n, args.rows, who == Who::kOwners),
           AmongRanks(RegionOf(all.out, all.rows, all.ldo, all.n), who, true)});
  if (args.rows > 0) operators_.emplace_back(args);
}

void Program::Publish(const Region& region, bool columns) {
  if (HasPeers()) CrossLogits(region, columns);
  if (rank_.count > 1 || HasPeers()) return MeetRanks();
  Declare({Reads(region, Division::All())});
}

void Program::Replay(const kernels::KernelTable& kernels, platform::WorkerTeam& team,
                     int worker) const {
  CHECK_EQ(team.size(), workers_ * team.ranks());
  CHECK_EQ(team.ranks(), HasPeers() ? ranks_->places.local : rank_.count);
  const Worker run{kernels, worker, ShareOf(worker)};
  for (const Operator& op : operators_) {
    if (const auto* barrier = std::get_if<Barrier>(&op)) {
      Meet(*barrier, kernels, team, worker);
    } else {
      std::visit(run, op);
    }
  }
}

// A worker that waits asks for its share of the weights that are needed next.
void Program::Meet(const Barrier& op, const kernels::KernelTable& kernels, platform::WorkerTeam& team, int worker) const {
  if (op.crosses()) {
    team.BarrierOfRanks();
    if (op.sums > 0) {
      AddUp(op, kernels, worker);
      team.BarrierOfRanks();
    }
    if (worker == 0 && rank_.index == ranks_->places.first_here()) Exchange(op);
    return team.BarrierOfRanks();
  }
  if (op.worker_bytes == 0) return op.of_ranks ? team.BarrierOfRanks() : team.Barrier();
  const PackedMatrix& w = *op.next;
  const Range columns = w.ColumnRange(worker);
  const char* at = static_cast<const char*>(w.data) + w.Offset(columns.begin);
  const char* const end = at + std::min(op.worker_bytes, w.Offset(columns.end) - w.Offset(columns.begin));
  const auto ask = [&] {
    constexpr int64_t kLine = 64, kLines = 8;  // a look at the barrier every 512 bytes
    for (int64_t i = 0; i < kLines; ++i) __builtin_prefetch(at + i * kLine, 0, 2);  // into L2
    at += kLines * kLine;
    return at < end;
  };
  op.of_ranks ? team.BarrierOfRanks(ask) : team.Barrier(ask);
}

void Program::Execute(int64_t i, const kernels::KernelTable& kernels, int worker) const {
  std::visit(Worker{kernels, worker, ShareOf(worker)}, operators_[i]);
}

int64_t Program::num_barriers() const {
  return std::count_if(operators_.begin(), operators_.end(), [](const Operator& op) {
    return std::holds_alternative<Barrier>(op);
  });
}

std::string Program::ToString() const {
  std::string text;
  for (const Operator& op : operators_) {
    if (!text.empty()) text += ' ';
    text += std::visit(Name{}, op);
  }
  return text;
}

}  // namespace tiercel::model
