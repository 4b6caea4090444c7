#include "comm/collectives_test_util.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "kernels/test_kernels.h"
#include "platform/topology.h"

namespace tiercel::comm {
namespace {

struct Shape {
  int ranks, workers;  // of each
  int64_t rows, n;
};

class CollectivesTest : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    const Shape& s = GetParam();
    const platform::Topology topology = *platform::Topology::Detect();
    platform::WorkerTeamOptions options;
    options.ranks = s.ranks;
    for (int i = 0; i < s.ranks * s.workers; ++i) {
      options.cpus.push_back(topology.cpus[static_cast<size_t>(i) % topology.cpus.size()].id);
    }
    team_ = std::move(*platform::WorkerTeam::Create(options));
    ld_ = s.n + 8;
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    const auto size = static_cast<size_t>(s.rows * ld_);
    for (int r = 0; r < s.ranks; ++r) {
      parts_.emplace_back(size);
      for (float& v : parts_.back()) v = normal(random);
      part_.push_back(parts_.back().data());
    }
    residual_.resize(size);
    for (BF16& v : residual_) v = ToBF16(normal(random));
    // As ops.h says it: neighbors first; then the residual, rounded once.
    expected_ = residual_;
    for (int64_t i = 0; i < s.rows * ld_; ++i) {
      if (i % ld_ >= s.n) continue;
      const float sum = SumOf(0, s.ranks, i);
      auto& value = expected_[static_cast<size_t>(i)];
      value = ToBF16(ToFloat(value) + sum);
    }
  }

  // In place on `rows`.
  kernels::AddPartsArgs Args(std::vector<BF16>* rows) const {
    const Shape& s = GetParam();
    return {.parts = {part_.data(), s.ranks, -1, ld_, 0}, .residual = rows->data(), .ldr = ld_,
            .out = rows->data(), .ldo = ld_, .n = s.n, .rows = s.rows};
  }

  // Of the ranks [begin, end): that of the largest power of two that is fewer, and that of the rest.
  float SumOf(int begin, int end, int64_t i) const {
    if (end - begin == 1) return parts_[static_cast<size_t>(begin)][static_cast<size_t>(i)];
    int left = 1;
    while (2 * left < end - begin) left *= 2;
    volatile float sum = SumOf(begin, begin + left, i);
    sum = sum + SumOf(begin + left, end, i);
    return sum;
  }

  std::unique_ptr<platform::WorkerTeam> team_;
  int64_t ld_ = 0;
  std::vector<std::vector<float>> parts_;
  std::vector<const float*> part_;
  std::vector<BF16> residual_, expected_;
};

TEST_P(CollectivesTest, EveryRankGetsTheSum) {
  const Shape& s = GetParam();
  const bool alone = AddsAlone(s.rows * s.n);
  for (const kernels::KernelTable* kernels : kernels::Kernels()) {
    const Collectives collectives(team_.get(), kernels);
    for (int round = 0; round < 20; ++round) {
      std::vector<std::vector<BF16>> copies(static_cast<size_t>(alone ? s.ranks : 1), residual_);
      team_->Run([&](int worker) {
        if ((worker + round) % 3 == 0) std::this_thread::yield();  // some come late
        collectives.AllReduce(Args(&copies[static_cast<size_t>(alone ? worker / s.workers : 0)]), worker);
      });
      for (const auto& copy : copies) ASSERT_TRUE(copy == expected_) << kernels->detail;
    }
  }
}

TEST_P(CollectivesTest, RanksAddTheirOwnRows) {
  const Shape& s = GetParam();
  const Collectives collectives(team_.get(), kernels::Kernels().back());
  std::vector<std::vector<BF16>> copies(static_cast<size_t>(s.ranks), residual_);
  team_->Run([&](int worker) {
    collectives.ReduceScatter(Args(&copies[static_cast<size_t>(worker / s.workers)]), worker);
  });
  int64_t owned = 0;
  for (int r = 0; r < s.ranks; ++r) {
    const Range own = OwnedBy({r, s.ranks}, s.rows);
    owned += own.size();
    for (int64_t i = 0; i < s.rows * ld_; ++i) {
      const bool is_own = i / ld_ >= own.begin && i / ld_ < own.end;
      const auto at = static_cast<size_t>(i);
      ASSERT_EQ(copies[static_cast<size_t>(r)][at].bits, (is_own ? expected_ : residual_)[at].bits)
          << "rank " << r << " value " << i;
    }
  }
  EXPECT_EQ(owned, s.rows);
}

// A run of ranks whose number is a power of two, and which begins at a multiple of it: its sum stands for its parts.
TEST_P(CollectivesTest, SumsStandForTheirParts) {
  const Shape& s = GetParam();
  for (const kernels::KernelTable* kernels : kernels::Kernels()) {
    for (int run = 2; run <= 4; run *= 2) {
      for (int own = 0; own < s.ranks; own += run) {  // the run whose parts are there
        std::vector<std::vector<float>> sums;
        std::vector<const float*> terms;
        std::vector<int32_t> ranks;
        sums.reserve(part_.size());
        for (int first = 0; first < s.ranks; first += run) {
          const int count = std::min(run, s.ranks - first);
          if (first == own || count < run) {
            terms.insert(terms.end(), part_.begin() + first, part_.begin() + first + count);
            ranks.insert(ranks.end(), static_cast<size_t>(count), 1);
            continue;
          }
          std::vector<float>& sum = sums.emplace_back(static_cast<size_t>(s.rows * ld_), 7.0f);
          kernels->add_parts({.parts = {part_.data() + first, count, -1, ld_, 0}, .ldo = ld_, .n = s.n, .rows = s.rows,
                              .out_f32 = sum.data()}, {0, 1});
          for (int64_t i = s.n; i < ld_; ++i) EXPECT_EQ(sum[static_cast<size_t>(i)], 7.0f);  // its columns alone
          terms.push_back(sum.data());
          ranks.push_back(run);
        }
        std::vector<BF16> out = residual_;
        kernels::AddPartsArgs args = Args(&out);
        args.parts = {terms.data(), static_cast<int>(terms.size()), -1, ld_, 0, ranks.data()};
        kernels->add_parts(args, {0, 1});
        ASSERT_TRUE(out == expected_) << kernels->detail << " runs of " << run << " but for " << own;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CollectivesTest,
                         testing::Values(Shape{1, 1, 3, 40}, Shape{1, 2, 5, 100}, Shape{2, 1, 1, 1024},
                                         Shape{2, 2, 7, 33}, Shape{3, 1, 2, 48}, Shape{4, 2, 9, 17}, Shape{7, 1, 3, 100}, Shape{6, 1, 40, 1000},
                                         Shape{2, 1, 64, 1024}, Shape{3, 2, 50, 1000}, Shape{4, 1, 3, 8192}),
                         [](const auto& info) {
                           const Shape& s = info.param;
                           return std::to_string(s.ranks) + "x" + std::to_string(s.workers) + "_" +
                                  std::to_string(s.rows) + "x" + std::to_string(s.n);
                         });

}  // namespace
}  // namespace tiercel::comm
