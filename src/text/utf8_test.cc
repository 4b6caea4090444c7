#include "text/utf8.h"

#include <gtest/gtest.h>

#include "text/utf8_cases.h"

namespace tiercel::text {
namespace {

TEST(Utf8, BrokenBytesAreReplacedAsPythonDoes) {
  for (const Utf8Case& c : kUtf8Cases) {
    EXPECT_EQ(ValidUtf8(c.bytes()), WithReplacements(c.whole)) << c.hex;
  }
}

TEST(Utf8, UnfinishedCharactersWaitForMore) {
  for (const Utf8Case& c : kUtf8Cases) {
    const std::string bytes = c.bytes();
    const std::string_view certain = std::string_view(bytes).substr(0, CompleteUtf8Prefix(bytes));
    EXPECT_EQ(ValidUtf8(certain), WithReplacements(c.piece)) << c.hex;
  }
}

// Bytes that come one by one give the same text as all at once.
TEST(Utf8, PiecesAddUp) {
  for (const Utf8Case& c : kUtf8Cases) {
    std::string pending, text;
    for (const char byte : c.bytes()) {
      pending += byte;
      const size_t certain = CompleteUtf8Prefix(pending);
      AppendValidUtf8(std::string_view(pending).substr(0, certain), &text);
      pending.erase(0, certain);
    }
    EXPECT_EQ(text, WithReplacements(c.piece)) << c.hex;
    AppendValidUtf8(pending, &text);
    EXPECT_EQ(text, WithReplacements(c.whole)) << c.hex;
  }
}

}  // namespace
}  // namespace tiercel::text
