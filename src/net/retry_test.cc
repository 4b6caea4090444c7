#include "net/retry.h"

#include <gtest/gtest.h>

#include "net/loopback_server.h"

namespace tiercel::net {
namespace {

TEST(Retries, WaitsDoubleWithJitterAndEnd) {
  const RetryOptions options;  // 5 tries: 4 waits
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Retries retries(options, seed);
    for (const double longest : {0.5, 1.0, 2.0, 4.0}) {
      const auto wait = retries.NextWait(0);
      ASSERT_TRUE(wait);
      EXPECT_GE(*wait, longest / 2);
      EXPECT_LE(*wait, longest);
    }
    EXPECT_FALSE(retries.NextWait(0));
  }
  EXPECT_NE(*Retries(options, 1).NextWait(0), *Retries(options, 2).NextWait(0));
}

TEST(Retries, TheServersWishCountsUpToABound) {
  Retries retries({}, 1);
  EXPECT_EQ(retries.NextWait(20), 20);
  EXPECT_FALSE(retries.NextWait(61));
}

TEST(Retries, GainsBeginAnewAndStillEnd) {
  Retries retries({}, 1);
  int tries = 1;
  while (retries.NextWait(0)) {
    retries.Gained();
    ASSERT_LE(++tries, 50);
  }
  EXPECT_EQ(tries, 50);
}

TEST(Retries, AllWaitsTogetherEnd) {
  RetryOptions options;
  options.max_tries = 1000;
  options.max_tries_in_all = 1000;
  Retries retries(options, 1);
  double waited = 0;
  while (const auto wait = retries.NextWait(10)) waited += *wait;
  EXPECT_GT(waited, 250);
  EXPECT_LE(waited, 300);
}

RetryOptions Quick() {
  RetryOptions options;
  options.first_wait_s = 0.001;
  return options;
}

TEST(SendWithRetries, PassingFaultsAreTriedAgain) {
  int count = 0;
  LoopbackServer server([&](const std::string&) {
    ++count;
    if (count == 1) return Reply(500, "");
    if (count == 2) return std::string();  // closed without an answer
    if (count == 3) return Reply(429, "");
    return Reply(200, "ok");
  });
  HttpClient client;
  const auto response = SendWithRetries(&client, {"GET", server.url(), {}, ""}, Quick());
  ASSERT_TRUE(response) << response.error();
  EXPECT_EQ(response->body, "ok");
}

TEST(SendWithRetries, LastingAnswersAreNot) {
  for (const int status : {400, 401, 403, 404, 410, 501}) {
    LoopbackServer server([&](const std::string&) { return Reply(status, ""); });
    HttpClient client;
    EXPECT_EQ(SendWithRetries(&client, {"GET", server.url(), {}, ""}, Quick())->status, status);
    EXPECT_EQ(server.requests().size(), 1u) << status;
  }
  LoopbackServer server([](const std::string&) { return Reply(503, ""); });
  HttpClient client;
  EXPECT_EQ(SendWithRetries(&client, {"GET", server.url(), {}, ""}, Quick())->status, 503);
  EXPECT_EQ(server.requests().size(), 5u);
}

}  // namespace
}  // namespace tiercel::net
