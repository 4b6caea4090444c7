// Programs replayed in one thread with the workers, of all ranks, in random orders: between two barriers a
// worker may be an operator or a whole stretch ahead of the others, as it may on a machine. Memory is poisoned first, so
// that who reads too early, or what another still reads is overwritten, shows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/test_random.h"
#include "model/program.h"
#include "model/program_test_util.h"

namespace tiercel::model {
namespace {

struct Case {
  const char* name;
  int64_t rows_each;  // of every sequence
  int64_t seqs;
  int64_t context;  // tokens of each once the step has run
  int64_t logit_rows;
  int schedules;  // how many to try
};

constexpr Case kDecode{"decode", 1, 1, 40, 1, 20};
constexpr Case kDecodes{"decodes", 1, 3, 40, 3, 20};
constexpr Case kFew{"few", 4, 2, 20, 8, 20};
constexpr Case kFewGathered{"few, gathered", 4, 2, 20, 3, 20};
constexpr Case kMany{"many", 5, 5, 5, 25, 20};
constexpr Case kManyGathered{"many, gathered", 8, 5, 30, 20, 20};
constexpr Case kNoLogits{"no logits", 5, 2, 5, 0, 20};
// The keys of a row are split between workers that have no whole KV groups.
constexpr Case kLongContext{"long context", 1, 2, 2500, 2, 20};
constexpr Case kInChunks{"in chunks", 31, 34, 31, 34 * 31, 3};
constexpr Case kInChunksGathered{"in chunks, gathered", 31, 34, 31, 700, 3};

struct Team {
  int workers = 2;  // of each rank
  int ranks = 1;
  std::vector<int> shares = {};  // of the workers of all ranks; empty: they are equal
};

// How a step is done; whichever it is, the bits are the same.
struct How {
  bool fuse_norm_quant = true;
  bool scatter = false, fuse_sum = false;
};

class OrderTest : public ::testing::TestWithParam<Format> {
 protected:
  // That every order gives the same; and that each barrier is needed, and one that is not there is found.
  void Check(const Case& c, Team team, int64_t num_kv_heads, How how = {});
};

// A model and one step of it.
class Step {
 public:
  Step(const SmallModel::Options& options, const Case& c, const How& how)
      : model_(options), a_(model_.activations()), rank_workers_(options.workers),
        workers_(options.workers * options.ranks), max_rows_(options.max_rows) {
    shape_ = {.rows = c.rows_each * c.seqs,
              .seqs = c.seqs,
              .logit_rows = c.logit_rows,
              .head_rows = c.logit_rows,
              .fuse_norm_quant = how.fuse_norm_quant,
              .scatter = how.scatter,
              .fuse_sum = how.fuse_sum};
    FillInputs(c);
    const int64_t values = model_.num_blocks() * a_.layout.block_stride;
    std::mt19937 random(1);
    for (int64_t i = 0; i < values; ++i) cache_.push_back(ToBF16(kernels::Uniform(random) - 0.5f));
    programs_.resize(static_cast<size_t>(options.ranks));
    for (int r = 0; r < ranks(); ++r) model_.Record(shape_, &programs_[static_cast<size_t>(r)], r);
  }

  int ranks() const { return static_cast<int>(programs_.size()); }
  const Program& program(int rank = 0) const { return programs_[static_cast<size_t>(rank)]; }

  // A barrier, as the entry of each rank's program that it is. Of several ranks those of all: what the workers of
  // one need is told by one rank.
  using Entries = std::vector<int64_t>;
  std::vector<Entries> Barriers() const {
    std::vector<Entries> barriers;
    for (int r = 0; r < ranks(); ++r) {
      size_t count = 0;
      for (int64_t i = 0; i < program(r).size(); ++i) {
        const Program::Barrier* const barrier = program(r).barrier(i);
        if (barrier == nullptr || (ranks() > 1 && !barrier->of_ranks)) continue;
        if (r == 0) barriers.emplace_back(ranks());
        if (count < barriers.size()) barriers[count][static_cast<size_t>(r)] = i;
        ++count;
      }
      EXPECT_EQ(count, barriers.size());  // else the ranks would wait for ever
    }
    return barriers;
  }

  // What a replay leaves behind: the cache, and the logits as each worker finds them at its end.
  using Result = std::vector<char>;

  // Ranks go from one barrier of all to the next one, one after the other; of each, every operator is done by
  // all the workers before the next one begins.
  Result InOrder() {
    Reset();
    std::vector<int64_t> at(programs_.size(), 0);
    for (bool more = true; more;) {
      more = false;
      for (int r = 0; r < ranks(); ++r) {
        int64_t& i = at[static_cast<size_t>(r)];
        for (; i < program(r).size(); ++i) {
          const Program::Barrier* const barrier = program(r).barrier(i);
          if (barrier != nullptr && barrier->of_ranks) break;
          if (barrier != nullptr) continue;
          for (int worker = 0; worker < rank_workers_; ++worker) {
            program(r).Execute(i, model_.kernels(), worker);
          }
        }
        more = more || i < program(r).size();
      }
      for (int64_t& i : at) ++i;
    }
    Result result;
    for (int worker = 0; worker < workers_; ++worker) AddLogits(&result);
    AddCaches(&result);
    return result;
  }

  // One worker after the other does an operator, which of those that do not stand at a barrier is left to
  // chance. The entries `missing` of the ranks' lists, which are barriers, are passed by.
  Result InRandomOrder(uint64_t seed, const Entries& missing = {}) {
    Reset();
    std::mt19937_64 random(seed);
    // How likely the same worker goes on: from worker by worker to as far as the next barrier.
    const double haste = std::vector{0.0, 0.5, 0.9, 1.0}[seed % 4];
    std::vector<int64_t> at(workers_, 0);  // each worker's next entry
    std::vector<Result> logits(workers_);
    std::vector<int> ready;
    int worker = -1;
    for (;;) {
      PassBarriers(&at, false);
      ready.clear();
      for (int w = 0; w < workers_; ++w) {
        const int rank = w / rank_workers_;
        if (!missing.empty() && at[w] == missing[static_cast<size_t>(rank)]) ++at[w];
        if (at[w] < program(rank).size() && program(rank).barrier(at[w]) == nullptr) ready.push_back(w);
        if (at[w] == program(rank).size() && logits[w].empty()) AddLogits(&logits[w]);
      }
      if (ready.empty()) {
        // All stand at one barrier of all ranks, or at the end.
        if (at[0] == program(0).size()) break;
        PassBarriers(&at, true);
        continue;
      }
      const bool goes_on = std::find(ready.begin(), ready.end(), worker) != ready.end() &&
                           std::uniform_real_distribution<>(0, 1)(random) < haste;
      if (!goes_on) worker = ready[random() % ready.size()];
      program(worker / rank_workers_).Execute(at[worker]++, model_.kernels(), worker % rank_workers_);
    }
    Result result;
    for (const Result& own : logits) result.insert(result.end(), own.begin(), own.end());
    AddCaches(&result);
    return result;
  }

 private:
  // Ranks all of whose workers stand at one barrier pass it, if it is one of all ranks or not.
  void PassBarriers(std::vector<int64_t>* at, bool of_ranks) const {
    for (int r = 0; r < ranks(); ++r) {
      const auto begin = at->begin() + r * rank_workers_, end = begin + rank_workers_;
      const bool together = std::count(begin, end, *begin) == rank_workers_;
      EXPECT_TRUE(together || !of_ranks);
      const auto* const barrier = *begin < program(r).size() ? program(r).barrier(*begin) : nullptr;
      if (!together || barrier == nullptr || barrier->of_ranks != of_ranks) continue;
      std::for_each(begin, end, [](int64_t& i) { ++i; });
    }
  }

  void FillInputs(const Case& c) {
    for (int64_t s = 0; s < c.seqs; ++s) {
      a_.query_start[s + 1] = static_cast<int32_t>((s + 1) * c.rows_each);
      a_.context_len[s] = static_cast<int32_t>(c.context);
      for (int64_t i = 0; i < model_.blocks_of_sequence(); ++i) {
        a_.block_table[s * a_.block_table_stride + i] =
            static_cast<int32_t>(1 + s * model_.blocks_of_sequence() + i);
      }
      for (int64_t r = 0; r < c.rows_each; ++r) {
        const int64_t row = s * c.rows_each + r;
        const int64_t position = c.context - c.rows_each + r;
        const int64_t block = a_.block_table[s * a_.block_table_stride +
                                             position / SmallModel::kBlockSize];
        a_.token_ids[row] = static_cast<int32_t>((row * 7 + row / 64 * 5 + 3) % model_.config().vocab_size);
        a_.positions[row] = static_cast<int32_t>(position);
        a_.kv_slot[row] = block * SmallModel::kBlockSize + position % SmallModel::kBlockSize;
      }
    }
    for (int64_t i = 0; i < c.logit_rows; ++i) {
      a_.logit_rows[i] = static_cast<int32_t>(i * shape_.rows / c.logit_rows);
    }
  }

  // NaN in every float, 127 in every byte of INT8.
  template <typename T>
  static void Poison(T* data, int64_t count) {
    if (data != nullptr) std::memset(data, 0xff, static_cast<size_t>(count) * sizeof(T));
  }
  static void Poison(const Rows& rows, int64_t count, int workers) {
    Poison(rows.data, rows.worker_stride > 0 ? workers * rows.worker_stride : count * rows.stride);
  }

  void Reset() {
    const int64_t rows = max_rows_;
    for (int r = 0; r < ranks(); ++r) PoisonRank(model_.activations(r), rows, std::min(rows, kChunkRows));
    for (const Rows& x : {a_.hidden, a_.logit_hidden, a_.crossing}) Poison(x, rows, 1);
    if (ranks() > 1) Poison(a_.crossing_quantized.row_scale, rows);
    Poison(a_.logits, rows * a_.logits_stride);
  }

  void PoisonRank(const Activations& a, int64_t rows, int64_t chunk) {
    const int64_t half = model_.config().head_dim / 2;
    Poison(a.cos, rows * half);
    Poison(a.sin, rows * half);
    for (const Rows& x : {a.normed, a.own_normed, a.qkv, a.attention}) Poison(x, rows, rank_workers_);
    for (const Rows& x : {a.mlp, a.gate_up}) Poison(x, chunk, rank_workers_);
    Poison(a.quantized.data, rows * QuantizedStride(64, model_.weights().layers[0].qkv.input.kind));
    Poison(a.quantized.row_scale, rows);
    Poison(a.own_quantized.data, rank_workers_ * a.own_quantized.worker_stride);
    Poison(a.own_quantized.row_scale, rank_workers_ * a.own_quantized.scale_worker_stride);
    Poison(a.part, a.part_rows * a.part_stride);
    const int64_t few = std::min(rows, comm::kFewValues / model_.config().hidden_size);
    for (const Rows& x : {a.few_hidden, a.few_logit_hidden}) Poison(x, few, 1);
    Poison(static_cast<std::byte*>(a.attention_scratch), rank_workers_ * a.attention_scratch_bytes);
    // Zeros before the first use; and a replay without a barrier may have left it in any state.
    if (a.attention_partials != nullptr) {
      std::memset(a.attention_partials, 0, static_cast<size_t>(a.attention_partials_bytes));
    }
    std::memcpy(a.kv, cache_.data(), static_cast<size_t>(CacheBytes(a)));
  }

  int64_t CacheBytes(const Activations& a) const {
    return model_.num_blocks() * a.layout.block_stride * static_cast<int64_t>(sizeof(BF16));
  }
  void AddLogits(Result* result) const {
    const char* const data = reinterpret_cast<const char*>(a_.logits);
    result->insert(result->end(), data, data + shape_.logit_rows * a_.logits_stride * 4);
  }
  void AddCaches(Result* result) const {
    for (int r = 0; r < ranks(); ++r) {
      const Activations& a = model_.activations(r);
      const char* const data = reinterpret_cast<const char*>(a.kv);
      result->insert(result->end(), data, data + CacheBytes(a));
    }
  }

  const SmallModel model_;
  const Activations& a_;
  const int rank_workers_, workers_;  // of a rank, and of all
  const int64_t max_rows_;
  StepShape shape_;
  std::vector<BF16> cache_;  // finite, and unlike what the step writes
  std::vector<Program> programs_;
};

void OrderTest::Check(const Case& c, Team team, int64_t num_kv_heads, How how) {
  SCOPED_TRACE(testing::Message() << c.name << ", " << team.ranks << " ranks of " << team.workers
                                  << " workers, " << (team.shares.empty() ? "" : "uneven, ") << num_kv_heads << " KV heads"
                                  << (how.fuse_norm_quant ? "" : ", norms not fused")
                                  << (how.scatter ? ", scattered" : "") << (how.fuse_sum ? ", sums fused" : ""));
  Step step({.format = GetParam(),
             .num_kv_heads = num_kv_heads,
             .workers = team.workers,
             .ranks = team.ranks,
             .shares = team.shares,
             .max_rows = c.rows_each * c.seqs,
             .max_seqs = c.seqs,
             .max_context = c.context,
             .isa = ""},
            c, how);
  const Step::Result expected = step.InOrder();
  for (int seed = 0; seed < c.schedules; ++seed) {
    ASSERT_EQ(step.InRandomOrder(seed), expected) << step.program().ToString();
  }
#ifndef TIERCEL_SANITIZED  // that a barrier is needed is nothing about memory, and takes most of the time
  for (const Step::Entries& missing : step.Barriers()) {
    bool found = false;
    for (int seed = 0; seed < 200 && !found; ++seed) found = step.InRandomOrder(seed, missing) != expected;
    EXPECT_TRUE(found) << "without entry " << missing[0] << " of " << step.program().ToString();
  }
#endif
}

TEST_P(OrderTest, WholeKvGroups) {
  for (const Case& c : {kDecode, kFew, kFewGathered, kMany, kManyGathered, kNoLogits}) {
    for (const int workers : {2, 3}) {
      Check(c, {workers}, 6);
      if (GetParam() != Format::kBF16) Check(c, {workers}, 6, {.fuse_norm_quant = false});
    }
  }
}

// Attention shares out its work by its cost. Here it cuts elsewhere than the operators around it, as it
// would not in a single decode; and the queries of a last layer without logits would be nobody's.
TEST_P(OrderTest, SharedKvGroups) {
  for (const Case& c : {kDecodes, kFew, kFewGathered, kMany, kManyGathered}) {
    Check(c, {2}, 3);
    Check(c, {3}, 2);
  }
}

TEST_P(OrderTest, SplitKeys) { Check(kLongContext, {2}, 3); }

// Workers that are not equal divide every operator alike, but for attention. (Shares of 3 and 2, of five sequences alike,
// would divide attention as they divide rows.)
TEST_P(OrderTest, UnevenShares) {
  for (const Case& c : {kDecodes, kFew, kFewGathered, kMany, kManyGathered, kLongContext}) {
    Check(c, {2, 1, {4, 3}}, 6);
    Check(c, {3, 1, {5, 3, 2}}, 2);
  }
  Check(kManyGathered, {2, 2, {1, 2, 3, 2}}, 6);
  Check(kInChunks, {2, 1, {4, 3}}, 6);
}

TEST_P(OrderTest, SharesChangeNoBit) {
  for (const Case& c : {kDecode, kFew, kManyGathered, kLongContext}) {
    SCOPED_TRACE(c.name);
    const auto result = [&](const std::vector<int>& shares) {
      return Step({.format = GetParam(), .num_kv_heads = 6, .workers = 3, .shares = shares, .max_rows = c.rows_each * c.seqs,
                   .max_seqs = c.seqs, .max_context = c.context, .isa = ""}, c, {})
          .InOrder();
    };
    const Step::Result even = result({});
    for (const std::vector<int>& shares : {std::vector{2, 1, 1}, {1, 1, 40}, {32, 32, 13}}) {
      EXPECT_TRUE(result(shares) == even) << shares[0] << ", " << shares[1] << ", " << shares[2];
    }
  }
}

TEST_P(OrderTest, InChunks) {
  Check(kInChunks, {2}, 6);
  Check(kInChunks, {3}, 2);
}

// Few rows every rank adds up for itself, with barriers of all ranks in between.
TEST_P(OrderTest, RanksWithFewRows) {
  for (const Case& c : {kDecodes, kFewGathered, kManyGathered}) {
    Check(c, {1, 2}, 6);
    Check(c, {1, 3}, 3);
    Check(c, {2, 2}, 6);
  }
}

// Of many rows each adds up its own, on memory that all share.
TEST_P(OrderTest, RanksWithManyRows) {
  Check(kInChunks, {1, 2}, 6);
  Check(kInChunksGathered, {1, 2}, 6, {.fuse_sum = true});
  Check(kInChunks, {1, 2}, 6, {.scatter = true});
  if (GetParam() != Format::kBF16) Check(kInChunks, {1, 2}, 6, {.fuse_norm_quant = false, .scatter = true});
  Check(kInChunksGathered, {1, 3}, 6, {.scatter = true, .fuse_sum = true});
  Check(kInChunks, {2, 2}, 6, {.scatter = true, .fuse_sum = true});
}

TEST_P(OrderTest, HowRanksNormAndAddUpChangesNoBit) {
  const Case& c = kInChunksGathered;
  for (const int ranks : {2, 3}) {
    const auto result = [&](const How& how) {
      return Step({.format = GetParam(), .num_kv_heads = 6, .workers = 1, .ranks = ranks,
                   .max_rows = c.rows_each * c.seqs, .max_seqs = c.seqs, .max_context = c.context, .isa = ""},
                  c, how)
          .InOrder();
    };
    const Step::Result plain = result({});
    EXPECT_TRUE(result({.fuse_sum = true}) == plain);
    EXPECT_TRUE(result({.scatter = true}) == plain);
    EXPECT_TRUE(result({.scatter = true, .fuse_sum = true}) == plain);
    EXPECT_TRUE(result({.fuse_norm_quant = false, .scatter = true, .fuse_sum = true}) == plain);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, OrderTest,
                         ::testing::Values(Format::kBF16, Format::kPerToken, Format::kStatic,
                                           Format::kMixed, Format::kInt4),
                         [](const auto& info) {
                           switch (info.param) {
                             case Format::kBF16: return "BF16";
                             case Format::kPerToken: return "PerToken";
                             case Format::kStatic: return "Static";
                             case Format::kMixed: return "Mixed";
                             case Format::kInt4: return "Int4";
                           }
                           return "";
                         });

}  // namespace
}  // namespace tiercel::model
