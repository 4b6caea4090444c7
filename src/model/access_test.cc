#include "model/access.h"

#include <gtest/gtest.h>

namespace tiercel::model {
namespace {

constexpr Division kAll = Division::All(), kRows = Division::Rows(), kOwn = Division::Own();

std::byte memory[4096];

Region At(int64_t offset, int64_t rows, int64_t stride, int64_t width) {
  return {memory + offset, rows, stride, width};
}

// Both ways: which of the two came first is not part of the rule.
bool Meet(const Access& a, const Access& b) {
  EXPECT_EQ(Conflict(a, b), Conflict(b, a));
  return Conflict(a, b);
}

bool Overlap(const Region& a, const Region& b) {
  EXPECT_EQ(MayOverlap(a, b), MayOverlap(b, a));
  return MayOverlap(a, b);
}

TEST(MayOverlapTest, RowsAfterEachOtherDoNot) {
  EXPECT_FALSE(Overlap(At(0, 4, 100, 100), At(400, 4, 100, 100)));
  EXPECT_TRUE(Overlap(At(0, 5, 100, 100), At(400, 4, 100, 100)));
  EXPECT_TRUE(Overlap(At(0, 4, 100, 100), At(300, 1, 7, 7)));
  EXPECT_FALSE(Overlap(At(0, 4, 100, 60), At(360, 1, 7, 7)));  // behind the last row's width
}

TEST(MayOverlapTest, ColumnsSideBySideDoNot) {
  EXPECT_FALSE(Overlap(At(0, 8, 100, 60), At(60, 8, 100, 40)));
  EXPECT_TRUE(Overlap(At(0, 8, 100, 61), At(60, 8, 100, 40)));
  EXPECT_FALSE(Overlap(At(0, 8, 100, 60), At(460, 2, 100, 40)));  // from another row on
  EXPECT_TRUE(Overlap(At(0, 8, 100, 60), At(459, 2, 100, 40)));
  EXPECT_TRUE(Overlap(At(0, 8, 100, 60), At(460, 2, 100, 41)));  // into the next row's beginning
}

TEST(MayOverlapTest, OtherStridesMay) {
  EXPECT_TRUE(Overlap(At(0, 8, 100, 10), At(50, 8, 90, 10)));
  EXPECT_FALSE(Overlap(At(0, 8, 100, 10), At(800, 8, 90, 10)));
}

TEST(MayOverlapTest, NothingMeetsNothing) {
  EXPECT_FALSE(Overlap(At(0, 0, 100, 100), At(0, 4, 100, 100)));
  EXPECT_FALSE(Overlap(RegionOf<float>(nullptr, 4, 100, 100), At(0, 4, 100, 100)));
  EXPECT_FALSE(Overlap({}, {}));
}

TEST(RegionTest, CountsElements) {
  const auto* const data = reinterpret_cast<const float*>(memory);
  EXPECT_TRUE(Overlap(RegionOf(data, 2, 10, 3), At(51, 1, 1, 1)));
  EXPECT_FALSE(Overlap(RegionOf(data, 2, 10, 3), At(52, 1, 1, 1)));
}

TEST(ConflictTest, ReadersDoNot) {
  const Region r = At(0, 8, 64, 64);
  EXPECT_FALSE(Meet(Reads(r, kAll), Reads(r, kAll)));
  EXPECT_FALSE(Meet(Reads(r, kAll), Reads(r, kRows)));
}

// Read after write, write after read, write after write.
TEST(ConflictTest, AWriterDoesUnlessBothDivideAlike) {
  const Region r = At(0, 8, 64, 64);
  const Division divisions[] = {kAll, kOwn, kRows, Division::Columns(4), Division::Columns(2)};
  for (const Division& a : divisions) {
    for (const Division& b : divisions) {
      const bool alike = a == b && a != kAll;
      EXPECT_EQ(Meet(Writes(r, a), Reads(r, b)), !alike);
      EXPECT_EQ(Meet(Writes(r, a), Writes(r, b)), !alike);
    }
  }
}

// The same division of other memory gives worker i other parts: rows from the fourth on, half of the
// rows, half of the columns.
TEST(ConflictTest, AlikeMeansOfTheSameMemory) {
  const Access rows = Writes(At(0, 8, 64, 64), kRows);
  EXPECT_TRUE(Meet(rows, Reads(At(256, 8, 64, 64), kRows)));
  EXPECT_TRUE(Meet(rows, Reads(At(0, 4, 64, 64), kRows)));
  EXPECT_TRUE(Meet(rows, Reads(At(0, 8, 32, 32), kRows)));
  EXPECT_FALSE(Meet(rows, Reads(At(0, 8, 64, 32), kRows)));  // a part of the same rows

  const Access columns = Writes(At(0, 8, 64, 64), Division::Columns(4));
  EXPECT_TRUE(Meet(columns, Reads(At(0, 8, 64, 32), Division::Columns(4))));
  EXPECT_TRUE(Meet(columns, Reads(At(16, 8, 64, 48), Division::Columns(4))));
  EXPECT_FALSE(Meet(columns, Reads(At(0, 4, 64, 64), Division::Columns(4))));  // fewer rows of them
  EXPECT_FALSE(Meet(columns, Reads(At(256, 4, 64, 64), Division::Columns(4))));  // those from the fourth on
}

// Ranks that each have a part of a region do not meet there, if the parts are the same ones.
TEST(ConflictTest, OfRanks) {
  const Region r = At(0, 8, 64, 64);
  const auto meet = [](const RankAccess& a, const RankAccess& b) {
    EXPECT_EQ(Conflict(a, b), Conflict(b, a));
    return Conflict(a, b);
  };
  const RankAccess own = {r, true, true};
  EXPECT_FALSE(meet(own, own));
  EXPECT_FALSE(meet(own, {r, true, false}));
  EXPECT_TRUE(meet(own, {r, false, false}));
  EXPECT_TRUE(meet(own, {At(0, 4, 64, 64), true, false}));  // of fewer rows others are a rank's own
  EXPECT_TRUE(meet(own, {At(256, 2, 64, 64), false, false}));
  EXPECT_FALSE(meet(own, {At(512, 8, 64, 64), false, true}));
  EXPECT_FALSE(meet({r, false, false}, {r, false, false}));
  EXPECT_FALSE(meet(own, {}));
}

TEST(ConflictTest, AnotherPlaceDoesNot) {
  EXPECT_FALSE(Meet(Writes(At(0, 8, 64, 64), kAll), Writes(At(512, 8, 64, 64), kAll)));
  EXPECT_FALSE(Meet(Writes(At(0, 8, 64, 32), kAll), Writes(At(32, 8, 64, 32), kRows)));
}

// A copy for each of three workers, however much of it is touched; and someone who reads all copies.
TEST(ConflictTest, OwnCopiesDoNot) {
  const Access copies = Writes(At(0, 3, 1024, 1000), kOwn);
  EXPECT_FALSE(Meet(copies, Reads(At(0, 3, 1024, 1024), kOwn)));
  EXPECT_TRUE(Meet(copies, Reads(At(0, 3, 1024, 1000), kAll)));
  EXPECT_TRUE(Meet(copies, Reads(At(0, 3, 1024, 1000), kRows)));  // of three rows a fast worker may have two
  EXPECT_TRUE(Meet(copies, Reads(At(0, 8, 64, 64), kRows)));
}

}  // namespace
}  // namespace tiercel::model
