// Programs replayed in one thread with the workers in random orders: between two barriers a worker may
// be an operator or a whole stretch ahead of the others, as it may on a machine. Memory is poisoned first, so
// that who reads too early, or what another still reads is overwritten, shows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

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
constexpr Case kInParts{"through the MLP in parts", 31, 34, 31, 34 * 31, 3};

class OrderTest : public ::testing::TestWithParam<Format> {
 protected:
  // That every order gives the same; and that each barrier is needed, and one that is not there is found.
  void Check(const Case& c, int workers, int64_t num_kv_heads, bool fuse_norm_quant = true);
};

// A model and one step of it.
class Step {
 public:
  Step(const SmallModel::Options& options, const Case& c, bool fuse_norm_quant)
      : model_(options), a_(model_.activations()), workers_(options.workers), max_rows_(options.max_rows) {
    shape_ = {.rows = c.rows_each * c.seqs,
              .seqs = c.seqs,
              .logit_rows = c.logit_rows,
              .head_rows = c.logit_rows,
              .fuse_norm_quant = fuse_norm_quant};
    FillInputs(c);
    const int64_t values = model_.num_blocks() * a_.layout.block_stride;
    std::mt19937 random(1);
    std::uniform_real_distribution<float> value(-0.5f, 0.5f);
    for (int64_t i = 0; i < values; ++i) cache_.push_back(ToBF16(value(random)));
    model_.Record(shape_, &program_);
  }

  const Program& program() const { return program_; }

  // What a replay leaves behind: the cache, and the logits as each worker finds them at its end.
  using Result = std::vector<char>;

  // Every operator is done by all the workers before the next one begins.
  Result InOrder() {
    Reset();
    for (int64_t i = 0; i < program_.size(); ++i) {
      if (program_.barrier(i) != nullptr) continue;
      for (int worker = 0; worker < workers_; ++worker) {
        program_.Execute(i, model_.kernels(), worker);
      }
    }
    Result result;
    for (int worker = 0; worker < workers_; ++worker) AddLogits(&result);
    AddCache(&result);
    return result;
  }

  // One worker after the other does an operator, which of those that do not stand at a barrier is left to
  // chance. Entry `missing` of the list, if it is a barrier, is passed by.
  Result InRandomOrder(uint64_t seed, int64_t missing = -1) {
    Reset();
    std::mt19937_64 random(seed);
    // How likely the same worker goes on: from worker by worker to as far as the next barrier.
    const double haste = std::vector{0.0, 0.5, 0.9, 1.0}[seed % 4];
    std::vector<int64_t> at(workers_, 0);  // each worker's next entry
    std::vector<Result> logits(workers_);
    std::vector<int> ready;
    int worker = -1;
    for (;;) {
      ready.clear();
      for (int w = 0; w < workers_; ++w) {
        while (at[w] == missing) ++at[w];
        if (at[w] < program_.size() && program_.barrier(at[w]) == nullptr) ready.push_back(w);
        if (at[w] == program_.size() && logits[w].empty()) AddLogits(&logits[w]);
      }
      if (ready.empty()) {
        // All stand at one barrier, or at the end.
        EXPECT_EQ(std::count(at.begin(), at.end(), at[0]), workers_);
        if (at[0] == program_.size()) break;
        for (int64_t& i : at) ++i;
        continue;
      }
      const bool goes_on = std::find(ready.begin(), ready.end(), worker) != ready.end() &&
                           std::uniform_real_distribution<>(0, 1)(random) < haste;
      if (!goes_on) worker = ready[random() % ready.size()];
      program_.Execute(at[worker]++, model_.kernels(), worker);
    }
    Result result;
    for (const Result& own : logits) result.insert(result.end(), own.begin(), own.end());
    AddCache(&result);
    return result;
  }

 private:
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
        a_.token_ids[row] = static_cast<int32_t>((row * 7 + 3) % model_.config().vocab_size);
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
    const int64_t rows = max_rows_, mlp_rows = std::min(rows, kMlpRows);
    const int64_t half = model_.config().head_dim / 2;
    Poison(a_.cos, rows * half);
    Poison(a_.sin, rows * half);
    for (const Rows& x : {a_.hidden, a_.normed, a_.own_normed, a_.qkv, a_.attention, a_.logit_hidden}) {
      Poison(x, rows, workers_);
    }
    Poison(a_.mlp, mlp_rows, workers_);
    Poison(a_.gate_up, mlp_rows, workers_);
    Poison(a_.quantized.data, rows * QuantizedStride(64));
    Poison(a_.quantized.row_scale, rows);
    Poison(a_.own_quantized.data, workers_ * a_.own_quantized.worker_stride);
    Poison(a_.own_quantized.row_scale, workers_ * a_.own_quantized.scale_worker_stride);
    Poison(a_.logits, rows * a_.logits_stride);
    Poison(static_cast<std::byte*>(a_.attention_scratch), workers_ * a_.attention_scratch_bytes);
    // Zeros before the first use; and a replay without a barrier may have left it in any state.
    if (a_.attention_partials != nullptr) {
      std::memset(a_.attention_partials, 0, static_cast<size_t>(a_.attention_partials_bytes));
    }
    std::memcpy(a_.kv, cache_.data(), cache_.size() * sizeof(BF16));
  }

  void AddLogits(Result* result) const {
    const char* const data = reinterpret_cast<const char*>(a_.logits);
    result->insert(result->end(), data, data + shape_.logit_rows * a_.logits_stride * 4);
  }
  void AddCache(Result* result) const {
    const char* const data = reinterpret_cast<const char*>(a_.kv);
    result->insert(result->end(), data, data + cache_.size() * sizeof(BF16));
  }

  const SmallModel model_;
  const Activations& a_;
  const int workers_;
  const int64_t max_rows_;
  StepShape shape_;
  std::vector<BF16> cache_;  // finite, and unlike what the step writes
  Program program_;
};

void OrderTest::Check(const Case& c, int workers, int64_t num_kv_heads, bool fuse_norm_quant) {
  SCOPED_TRACE(testing::Message() << c.name << ", " << workers << " workers, " << num_kv_heads
                                  << " KV heads" << (fuse_norm_quant ? "" : ", not fused"));
  Step step({.format = GetParam(),
             .num_kv_heads = num_kv_heads,
             .workers = workers,
             .max_rows = c.rows_each * c.seqs,
             .max_seqs = c.seqs,
             .max_context = c.context,
             .isa = ""},
            c, fuse_norm_quant);
  const Step::Result expected = step.InOrder();
  for (int seed = 0; seed < c.schedules; ++seed) {
    ASSERT_EQ(step.InRandomOrder(seed), expected) << step.program().ToString();
  }
  for (int64_t i = 0; i < step.program().size(); ++i) {
    if (step.program().barrier(i) == nullptr) continue;
    bool found = false;
    for (int seed = 0; seed < 200 && !found; ++seed) {
      found = step.InRandomOrder(seed, i) != expected;
    }
    EXPECT_TRUE(found) << "without entry " << i << " of " << step.program().ToString();
  }
}

TEST_P(OrderTest, WholeKvGroups) {
  for (const Case& c : {kDecode, kFew, kFewGathered, kMany, kManyGathered, kNoLogits}) {
    for (const int workers : {2, 3}) {
      Check(c, workers, 6);
      if (GetParam() != Format::kBF16) Check(c, workers, 6, false);
    }
  }
}

// Attention shares out its work by its cost. Here it cuts elsewhere than the operators around it, as it
// would not in a single decode; and the queries of a last layer without logits would be nobody's.
TEST_P(OrderTest, SharedKvGroups) {
  for (const Case& c : {kDecodes, kFew, kFewGathered, kMany, kManyGathered}) {
    Check(c, 2, 3);
    Check(c, 3, 2);
  }
}

TEST_P(OrderTest, SplitKeys) { Check(kLongContext, 2, 3); }

TEST_P(OrderTest, InParts) {
  Check(kInParts, 2, 6);
  Check(kInParts, 3, 2);
}

INSTANTIATE_TEST_SUITE_P(Formats, OrderTest,
                         ::testing::Values(Format::kBF16, Format::kPerToken, Format::kStatic,
                                           Format::kMixed),
                         [](const auto& info) {
                           switch (info.param) {
                             case Format::kBF16: return "BF16";
                             case Format::kPerToken: return "PerToken";
                             case Format::kStatic: return "Static";
                             case Format::kMixed: return "Mixed";
                           }
                           return "";
                         });

}  // namespace
}  // namespace tiercel::model
