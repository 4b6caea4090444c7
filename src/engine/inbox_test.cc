#include "engine/inbox.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "engine/active_request.h"
#include "engine/stream_state.h"

namespace tiercel::engine {
namespace {

std::shared_ptr<StreamState> Submit(Inbox* inbox) {
  auto request = std::make_unique<ActiveRequest>();
  const auto stream = std::make_shared<StreamState>(2, nullptr);
  request->stream = stream;
  EXPECT_TRUE(inbox->Submit(std::move(request)).ok());
  return stream;
}

// Whoever takes requests and then wishes knows every wish's request, whatever comes in between.
TEST(Inbox, AWishIsNotThereBeforeItsRequestHasBeenTaken) {
  Inbox inbox{InboxLimits{}};
  int index = 0;
  const auto first = Submit(&inbox);
  EXPECT_NE(inbox.NextRequest(), nullptr);
  EXPECT_EQ(inbox.NextRequest(), nullptr);
  inbox.StopSample(first, 1);
  // Another one comes, and its reader goes, before the wishes are taken.
  const auto second = Submit(&inbox);
  inbox.Leave(second, /*finished=*/false);
  EXPECT_EQ(inbox.NextWish(&index), nullptr);
  inbox.Wait(60);  // there is work: it does not wait
  EXPECT_NE(inbox.NextRequest(), nullptr);
  EXPECT_EQ(inbox.NextWish(&index), first);
  EXPECT_EQ(index, 1);
  EXPECT_EQ(inbox.NextWish(&index), second);
  EXPECT_EQ(index, Inbox::kAllSamples);
  EXPECT_EQ(inbox.NextWish(&index), nullptr);
}

}  // namespace
}  // namespace tiercel::engine
