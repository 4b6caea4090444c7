#include "engine/block_pool.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/prefix_hash.h"

namespace tiercel::engine {
namespace {

BlockHash Name(uint64_t i) { return {i, ~i}; }

TEST(BlockPoolTest, HandsOutEveryBlockButZeroOnce) {
  BlockPool pool(10);
  std::set<int32_t> seen;
  while (pool.num_free() > 0) seen.insert(pool.Allocate());
  EXPECT_EQ(seen.size(), 9u);
  EXPECT_EQ(*seen.begin(), 1);
  EXPECT_EQ(*seen.rbegin(), 9);
}

TEST(BlockPoolTest, KeepsNamesOfFreeBlocksUntilReuse) {
  BlockPool pool(4);
  const int32_t a = pool.Allocate(), b = pool.Allocate(), c = pool.Allocate();
  pool.SetName(a, Name(1));
  pool.SetName(b, Name(2));
  pool.SetName(c, Name(1));  // the first keeps the name
  EXPECT_EQ(pool.Find(Name(1)), a);
  pool.Release(a);
  pool.Release(b);
  pool.Release(c);
  EXPECT_EQ(pool.Find(Name(1)), a);
  pool.AddReference(a);  // in use again, with its content
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_EQ(pool.Allocate(), c);  // nameless first
  EXPECT_EQ(pool.Allocate(), b);
  EXPECT_EQ(pool.Find(Name(2)), std::nullopt);
  EXPECT_EQ(pool.Find(Name(1)), a);
}

TEST(BlockPoolTest, EvictsTheLeastRecentlyFreedFirst) {
  BlockPool pool(4);
  int32_t blocks[3];
  for (int i = 0; i < 3; ++i) {
    blocks[i] = pool.Allocate();
    pool.SetName(blocks[i], Name(static_cast<uint64_t>(i)));
  }
  for (const int i : {1, 0, 2}) pool.Release(blocks[i]);
  pool.AddReference(blocks[1]);
  pool.Release(blocks[1]);  // now the most recent
  EXPECT_EQ(pool.Allocate(), blocks[0]);
  EXPECT_EQ(pool.Allocate(), blocks[2]);
  EXPECT_EQ(pool.Allocate(), blocks[1]);
}

TEST(BlockPoolTest, ResetsOnlyWhenNothingIsInUse) {
  BlockPool pool(3);
  const int32_t a = pool.Allocate();
  pool.SetName(a, Name(1));
  pool.AddReference(a);
  pool.Release(a);
  EXPECT_FALSE(pool.Reset());
  EXPECT_TRUE(pool.in_use(a));
  pool.Release(a);
  EXPECT_TRUE(pool.Reset());
  EXPECT_EQ(pool.Find(Name(1)), std::nullopt);
}

TEST(PrefixHashTest, EqualsThePublishedSipHashVector) {
  // Key 00 01 … 0f; the reference's 128-bit output for the empty input is a3 81 7f 04 … 93.
  const PrefixHasher hasher(0x0706050403020100, 0x0f0e0d0c0b0a0908);
  const BlockHash empty = hasher.Root("");
  EXPECT_EQ(empty.low, 0xe6a825ba047f81a3u);
  EXPECT_EQ(empty.high, 0x930255c71472f66du);
}

TEST(PrefixHashTest, EveryPartOfTheChainCounts) {
  const PrefixHasher hasher(1, 2);
  const std::vector<int32_t> tokens = {1, 2, 3}, other = {1, 2, 4};
  const BlockHash root = hasher.Root(""), salted = hasher.Root("s");
  EXPECT_NE(root, salted);
  EXPECT_NE(hasher.Next(root, tokens), hasher.Next(salted, tokens));
  EXPECT_NE(hasher.Next(root, tokens), hasher.Next(root, other));
  EXPECT_EQ(hasher.Next(root, tokens), hasher.Next(root, std::vector<int32_t>(tokens)));
  EXPECT_NE(PrefixHasher(1, 3).Next(root, tokens), hasher.Next(root, tokens));
  EXPECT_NE(PrefixHasher().Root(""), PrefixHasher().Root(""));  // secret keys
}

}  // namespace
}  // namespace tiercel::engine
