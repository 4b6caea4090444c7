#include "base/status.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

TEST(Status, MessageIsOneLineWhateverWasFound) {
  EXPECT_EQ(InvalidArgument("found \"{}\"", "a\nb\r\tc\x1b[31m\x7f").message(),
            "found \"a\\nb\\r\\tc\\x1b[31m\\x7f\"");
  EXPECT_EQ(NotFound("{}", std::string_view("\0", 1)).message(), "\\x00");
}

TEST(Status, TextBeyondAsciiStays) {
  EXPECT_EQ(NotFound("{}: no such file", "modèle/模型").message(), "modèle/模型: no such file");
}

}  // namespace
}  // namespace tiercel
