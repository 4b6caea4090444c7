#include "net/sse_reader.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace tiercel::net {
namespace {

TEST(SseReader, AnyCutAndAnyLineEnd) {
  const std::string text = "data: a\r\n\r\n: note\nevent: x\ndata:b\ndata: c\n\n\rdata: d\r\r";
  for (size_t size = 1; size <= text.size(); ++size) {
    std::string got;
    SseReader reader([&](std::string_view event, std::string_view data) {
      got += fmt::format("[{}|{}]", event, data);
      return true;
    });
    for (size_t at = 0; at < text.size(); at += size) {
      EXPECT_TRUE(reader.Feed(std::string_view(text).substr(at, size)));
    }
    EXPECT_EQ(got, "[|a][x|b\nc][|d]") << size;
  }
}

TEST(SseReader, ALineOrAnEventWithoutAnEndIsCut) {
  for (const char* piece : {"data: aaaaaaaa", "data: aaaaaaaa\n", ": aaaaaaaaaa"}) {
    SseReader reader([](std::string_view, std::string_view) { return true; }, 1000);
    int fed = 0;
    while (fed < 10'000 && reader.Feed(piece)) ++fed;
    EXPECT_LT(fed, 1000) << piece;
    EXPECT_TRUE(reader.too_large()) << piece;
  }
  // Many small events are no large one.
  SseReader reader([](std::string_view, std::string_view) { return true; }, 1000);
  for (int i = 0; i < 10'000; ++i) ASSERT_TRUE(reader.Feed("data: aaaaaaaa\n\n"));
  EXPECT_FALSE(reader.too_large());
}

}  // namespace
}  // namespace tiercel::net
