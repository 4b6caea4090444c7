// How attention's work is shared out: all of it, once, in about equal parts.
#include "kernels/attention_work.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <tuple>
#include <vector>

namespace tiercel::kernels {
namespace {

// A random step: mostly decodes, some of them of long contexts.
struct RandomStep {
  explicit RandomStep(uint32_t seed) : random(seed) {
    const auto draw = [&](int low, int high) {
      return low + static_cast<int>(random() % static_cast<uint32_t>(high - low + 1));
    };
    workers = draw(1, 16);
    if (seed % 2 == 1) {  // not equal
      bounds = {0};
      for (int i = 0; i < workers; ++i) bounds.push_back(bounds.back() + draw(1, 32));
    }
    max_tokens = draw(1, 64);
    args.layout = {draw(1, 9), 32, 32};
    args.num_q_heads = args.layout.num_kv_heads * draw(1, 20);
    args.num_seqs = draw(1, 12);
    for (int s = 0; s < args.num_seqs; ++s) {
      const int tokens = draw(0, 2) > 0 ? 1 : draw(1, 200);
      query_start.push_back(query_start.back() + tokens);
      context_len.push_back(tokens + draw(0, draw(0, 1) == 0 ? 3000 : 20000));
    }
    args.query_start = query_start.data();
    args.context_len = context_len.data();
    args.block_table_stride =
        (*std::max_element(context_len.begin(), context_len.end()) + 31) / 32;
    partials.resize(AttentionPartialsBytes(args, share(0)) + 64);
    args.partials = partials.data() + (64 - reinterpret_cast<uintptr_t>(partials.data()) % 64) % 64;
  }

  Share share(int worker) const { return {worker, workers, bounds.empty() ? nullptr : bounds.data()}; }
  std::vector<AttentionTile> Tiles(int worker) const {
    std::vector<AttentionTile> all;
    AttentionTiles tiles(args, share(worker), max_tokens);
    for (AttentionTile tile; tiles.Next(&tile);) all.push_back(tile);
    return all;
  }
  // As attention_work.cc has it; of a whole tile or of a segment of one.
  int64_t Cost(const AttentionTile& tile, int64_t keys) const {
    return std::max(16, tile.tokens * (args.num_q_heads / args.layout.num_kv_heads)) * keys;
  }

  std::mt19937 random;
  int workers = 0, max_tokens = 0;
  std::vector<int32_t> bounds;  // of their shares; empty: they are equal
  AttentionArgs args;
  std::vector<int32_t> query_start = {0}, context_len;
  std::vector<uint8_t> partials;
};

constexpr uint32_t kSteps = 400;

// A sequence's row with one of its KV heads' segments.
using Piece = std::tuple<int, int, int64_t, int64_t>;

std::vector<Piece> PiecesOf(const AttentionTile& tile) {
  std::vector<Piece> pieces;
  for (int t = 0; t < tile.tokens; ++t) {
    for (int64_t key = tile.keys.begin; key < tile.keys.end; key += kSegmentKeys) {
      pieces.emplace_back(tile.seq, tile.kv_head, tile.first_row + t, key / kSegmentKeys);
    }
  }
  return pieces;
}

TEST(AttentionTiles, EveryRowAndSegmentIsTakenOnce) {
  for (uint32_t seed = 0; seed < kSteps; ++seed) {
    const RandomStep step(seed);
    std::multiset<Piece> taken, expected;
    for (int worker = 0; worker < step.workers; ++worker) {
      for (const AttentionTile& tile : step.Tiles(worker)) {
        EXPECT_LE(tile.tokens, step.max_tokens);
        EXPECT_EQ(tile.keys.begin % kSegmentKeys, 0);
        EXPECT_TRUE(tile.keys.end == tile.last_visible() ||
                    (tile.IsCut() && tile.keys.end % kSegmentKeys == 0));
        const std::vector<Piece> pieces = PiecesOf(tile);
        taken.insert(pieces.begin(), pieces.end());
      }
    }
    RandomStep whole(seed);
    whole.workers = 1;
    whole.bounds.clear();
    for (const AttentionTile& tile : whole.Tiles(0)) {
      EXPECT_EQ(tile.keys, (Range{0, tile.last_visible()}));
      const std::vector<Piece> pieces = PiecesOf(tile);
      expected.insert(pieces.begin(), pieces.end());
    }
    ASSERT_EQ(taken, expected) << "step " << seed;
  }
}

TEST(AttentionTiles, FewTilesAreCutAndEachHasItsSlot) {
  int cut_tiles = 0;
  for (uint32_t seed = 0; seed < kSteps; ++seed) {
    RandomStep step(seed);
    std::map<std::pair<int64_t, int>, int> slots;  // of each cut tile
    std::set<int> used;
    for (int worker = 0; worker < step.workers; ++worker) {
      for (const AttentionTile& tile : step.Tiles(worker)) {
        if (!tile.IsCut()) continue;
        ASSERT_EQ(tile.tokens, 1);
        EXPECT_LT(tile.keys.size(), tile.last_visible());
        EXPECT_LE(tile.slot, worker);
        EXPECT_EQ(tile.keys.begin == 0, tile.slot == worker);
        const auto [at, is_new] = slots.emplace(std::pair{tile.first_row, tile.kv_head}, tile.slot);
        EXPECT_EQ(at->second, tile.slot);
        EXPECT_EQ(used.insert(tile.slot).second, is_new) << "step " << seed;
      }
    }
    EXPECT_LT(std::ssize(slots), step.workers);
    const bool owned = AttentionOwnsGroups(step.args.layout.num_kv_heads, step.share(0));
    EXPECT_TRUE(!owned || slots.empty());
    cut_tiles += static_cast<int>(slots.size());

    step.args.partials = nullptr;
    for (int worker = 0; worker < step.workers; ++worker) {
      for (const AttentionTile& tile : step.Tiles(worker)) EXPECT_FALSE(tile.IsCut());
    }
  }
  EXPECT_GT(cut_tiles, 100);
}

// A part is off by half of the first and half of the last piece at most.
TEST(AttentionTiles, PartsCostAboutWhatTheSharesAre) {
  for (uint32_t seed = 0; seed < kSteps; ++seed) {
    const RandomStep step(seed);
    if (AttentionOwnsGroups(step.args.layout.num_kv_heads, step.share(0))) continue;
    std::vector<int64_t> costs(step.workers);
    int64_t total = 0, largest = 0;
    for (int worker = 0; worker < step.workers; ++worker) {
      for (const AttentionTile& tile : step.Tiles(worker)) {
        costs[worker] += step.Cost(tile, tile.keys.size());
        largest = std::max(largest, step.Cost(tile, tile.tokens > 1 ? tile.keys.size() : kSegmentKeys));
      }
      total += costs[worker];
    }
    for (int worker = 0; worker < step.workers; ++worker) {
      const Share share = step.share(worker);
      const int64_t due = total * (share.end() - share.begin()) / share.whole();
      EXPECT_LE(std::abs(costs[worker] - due), largest + 1) << "step " << seed;
    }
  }
}

// No two workers' segments share a cache line, and all lie in the buffer.
TEST(CutTile, SegmentsHaveTheirOwnLines) {
  AttentionArgs args;
  args.layout = {3, 32, 32};
  args.num_q_heads = 3 * 3;
  args.block_table_stride = 100;  // four segments
  constexpr int kWorkers = 4;
  const int64_t bytes = AttentionPartialsBytes(args, {0, kWorkers});
  EXPECT_EQ(AttentionPartialsBytes(args, {0, 3}), 0);
  std::vector<uint8_t> buffer(bytes + 64);
  uint8_t* const base = buffer.data() + (64 - reinterpret_cast<uintptr_t>(buffer.data()) % 64) % 64;
  args.partials = base;
  std::set<int64_t> lines;
  size_t count = 0;
  for (int slot = 0; slot < kWorkers; ++slot) {
    for (int64_t key = 0; key < 4 * kSegmentKeys; key += kSegmentKeys) {
      AttentionTile tile;
      tile.slot = slot;
      const RowSums sums = CutTile(args, tile).Segment(key);
      EXPECT_EQ((reinterpret_cast<uint8_t*>(sums.acc) - base) % 64, 0);
      EXPECT_EQ(sums.max, sums.acc + 3 * 32);
      EXPECT_EQ(sums.sum, sums.max + 3);
      const int64_t first = (reinterpret_cast<uint8_t*>(sums.acc) - base) / 64;
      const int64_t last = (reinterpret_cast<uint8_t*>(sums.sum + 3) - 1 - base) / 64;
      EXPECT_GE(first, 1);
      EXPECT_LT(last, bytes / 64);
      for (int64_t line = first; line <= last; ++line) lines.insert(line);
      count += last - first + 1;
    }
  }
  EXPECT_EQ(lines.size(), count);
}

TEST(CutTile, TheLastWorkerFinishesIt) {
  AttentionArgs args;
  args.layout = {1, 32, 32};
  args.num_q_heads = 1;
  args.block_table_stride = 160;
  alignas(64) uint8_t buffer[8192] = {};
  ASSERT_LE(AttentionPartialsBytes(args, {0, 2}), std::ssize(buffer));
  args.partials = buffer;
  AttentionTile first;
  first.tokens = 1;
  first.first_visible = 4500;  // five segments
  first.slot = 0;
  AttentionTile second = first;
  first.keys = {0, 2 * kSegmentKeys};
  second.keys = {2 * kSegmentKeys, 4500};
  for (int step = 0; step < 3; ++step) {
    EXPECT_FALSE(CutTile(args, step == 1 ? second : first).Finish());
    EXPECT_TRUE(CutTile(args, step == 1 ? first : second).Finish());
  }
}

// Under ThreadSanitizer: no write of a segment is unordered with its reading.
TEST(CutTile, WhoFinishesItSeesAllSegments) {
  constexpr int kWorkers = 4;
  AttentionArgs args;
  args.layout = {1, 32, 32};
  args.num_q_heads = 1;
  args.block_table_stride = kWorkers * kSegmentKeys / 32;
  alignas(64) uint8_t buffer[8192] = {};
  ASSERT_LE(AttentionPartialsBytes(args, {0, kWorkers}), std::ssize(buffer));
  args.partials = buffer;
  for (int step = 0; step < 50; ++step) {
    std::atomic<int> finishers = 0;
    const auto work = [&](int worker) {
      AttentionTile tile;
      tile.tokens = 1;
      tile.first_visible = kWorkers * kSegmentKeys;
      tile.slot = 1;
      tile.keys = {worker * kSegmentKeys, (worker + 1) * kSegmentKeys};
      const CutTile cut(args, tile);
      *cut.Segment(tile.keys.begin).sum = static_cast<float>(step + worker);
      if (!cut.Finish()) return;
      ++finishers;
      for (int i = 0; i < kWorkers; ++i) EXPECT_EQ(*cut.Segment(i * kSegmentKeys).sum, step + i);
    };
    std::vector<std::thread> threads;
    for (int worker = 0; worker < kWorkers; ++worker) threads.emplace_back(work, worker);
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(finishers, 1);
  }
}

}  // namespace
}  // namespace tiercel::kernels
