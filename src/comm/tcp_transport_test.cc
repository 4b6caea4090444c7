#include "comm/tcp_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <future>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "comm/agreement.h"
#include "comm/transport_test_util.h"
#include "comm/socket.h"

namespace tiercel::comm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// What `from` sends to `to`: no two bytes of different pairs, or neighbors, are alike.
std::byte ByteOf(int from, int to, int64_t at) { return static_cast<std::byte>((from * 89 + to * 57 + at * 31 + at / 255) % 251); }

TEST(TcpTransport, EveryoneSendsEveryoneElse) {
  const Transports transports = ConnectAll(4);
  // A word, and more than the system's buffers take: nobody may wait for the other to receive first.
  for (const int64_t bytes : {int64_t{8}, int64_t{20} << 20}) {
    Each(transports, [&](Transport& transport) {
      const auto [index, count] = transport.process();
      std::vector<std::vector<std::byte>> out(static_cast<size_t>(count)), in(static_cast<size_t>(count));
      std::vector<Transfer> sends, receives;
      for (int peer = 0; peer < count; ++peer) {
        if (peer == index) continue;
        auto& to = out[static_cast<size_t>(peer)];
        to.resize(static_cast<size_t>(bytes));
        for (int64_t i = 0; i < bytes; ++i) to[static_cast<size_t>(i)] = ByteOf(index, peer, i);
        in[static_cast<size_t>(peer)].resize(static_cast<size_t>(bytes));
        sends.push_back(TransferOf(peer, to.data(), bytes));
        receives.push_back(TransferOf(peer, in[static_cast<size_t>(peer)].data(), bytes));
      }
      const Status status = transport.Exchange(sends, receives);
      ASSERT_TRUE(status.ok()) << status;
      for (int peer = 0; peer < count; ++peer) {
        if (peer == index) continue;
        for (int64_t i = 0; i < bytes; ++i) {
          ASSERT_EQ(in[static_cast<size_t>(peer)][static_cast<size_t>(i)], ByteOf(peer, index, i));
        }
      }
    });
  }
}

// Rows with gaps, of other places in either process; a transfer of nothing; several in order.
TEST(TcpTransport, RowsGoWhereTheyBelong) {
  const Transports transports = ConnectAll(2);
  constexpr int64_t kRows = 700, kWidth = 12;  // more pieces than one call takes
  Each(transports, [&](Transport& transport) {
    const int peer = 1 - transport.process().index;
    std::vector<std::byte> out(kRows * 20), in(kRows * 33, std::byte{77});
    for (size_t i = 0; i < out.size(); ++i) out[i] = ByteOf(1 - peer, peer, static_cast<int64_t>(i));
    int64_t first = -peer, second = 0;
    const int64_t mine = 1 - peer;
    const std::vector<Transfer> sends = {TransferOf(peer, &mine, 1), {peer, out.data(), kRows, 20, kWidth},
                                         {peer, out.data(), 0, 20, kWidth}, TransferOf(peer, &mine, 1)};
    const std::vector<Transfer> receives = {TransferOf(peer, &first, 1), {peer, in.data(), kRows, 33, kWidth},
                                            {peer, in.data(), 0, 20, kWidth}, TransferOf(peer, &second, 1)};
    const Status status = transport.Exchange(sends, receives);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(first, peer);
    EXPECT_EQ(second, peer);
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t i = 0; i < 33; ++i) {
        const std::byte expected = i < kWidth ? ByteOf(peer, 1 - peer, row * 20 + i) : std::byte{77};
        ASSERT_EQ(in[static_cast<size_t>(row * 33 + i)], expected);
      }
    }
  });
}

// More than the system's buffers take, of two in turn, while the one who has posted them does other things: the sender waits for
// no answer, and no answer for the sender.
TEST(TcpTransport, PostedReceivesGoOnBesideOthers) {
  const Transports transports = ConnectAll(3);
  constexpr int64_t kBytes = int64_t{20} << 20;
  Each(transports, [&](Transport& transport) {
    const int index = transport.process().index;
    std::vector<std::byte> small(100), large(kBytes), large2(kBytes);
    if (index == 2) {  // gives, then answers
      for (int64_t i = 0; i < kBytes; ++i) large[static_cast<size_t>(i)] = ByteOf(2, 0, i);
      for (int i = 0; i < 2; ++i) {
        const std::vector<Transfer> give = {TransferOf(0, large.data(), kBytes)};
        ASSERT_TRUE(transport.Exchange(give, {}).ok());
      }
      const std::vector<Transfer> receive = {TransferOf(0, large2.data(), kBytes)}, send = {TransferOf(0, small.data(), 100)};
      ASSERT_TRUE(transport.Exchange({}, receive).ok());
      ASSERT_TRUE(transport.Exchange(send, {}).ok());
      for (int64_t i = 0; i < kBytes; ++i) ASSERT_EQ(large2[static_cast<size_t>(i)], ByteOf(0, 2, i));
    } else if (index == 1) {
      const std::vector<Transfer> zero = {TransferOf(0, small.data(), 100)};
      ASSERT_TRUE(transport.Exchange(zero, zero).ok());
    } else {
      std::vector<std::byte> out(kBytes);
      for (int64_t i = 0; i < kBytes; ++i) out[static_cast<size_t>(i)] = ByteOf(0, 2, i);
      const std::vector<Transfer> first = {TransferOf(2, large.data(), kBytes)}, second = {TransferOf(2, large2.data(), kBytes)};
      ASSERT_TRUE(transport.Post(first).ok());
      ASSERT_TRUE(transport.Post(second).ok());
      const std::vector<Transfer> one = {TransferOf(1, small.data(), 100)};
      ASSERT_TRUE(transport.Exchange(one, one).ok());
      const std::vector<Transfer> two = {TransferOf(2, small.data(), 100)}, give = {TransferOf(2, out.data(), kBytes)};
      ASSERT_TRUE(transport.Exchange(give, two).ok());  // behind what was posted
      for (const auto* in : {&large, &large2}) {
        ASSERT_TRUE(transport.Await().ok());
        for (int64_t i = 0; i < kBytes; ++i) ASSERT_EQ((*in)[static_cast<size_t>(i)], ByteOf(2, 0, i));
      }
    }
  });
}

TEST(TcpTransport, WhoIsAwaitedIsNamed) {
  const Transports transports = ConnectAll(2, 0.2);
  int64_t word = 0;
  const std::vector<Transfer> one = {TransferOf(1, &word, 1)};
  ASSERT_TRUE((*transports[0])->Post(one).ok());
  EXPECT_TRUE((*transports[0])->Exchange({}, {}).ok());  // does not wait for it
  EXPECT_THAT((*transports[0])->Await().message(),
              AllOf(HasSubstr("nothing came from process 1 ("), HasSubstr("within 0.2 s")));
}

TEST(TcpTransport, AgreeOnTheFirstFault) {
  const Transports transports = ConnectAll(3);
  Each(transports, [](Transport& transport) {
    const int index = transport.process().index;
    EXPECT_TRUE(Agree(OkStatus(), &transport).ok());
    const Status status = Agree(index == 1 ? NotFound("no such file") : OkStatus(), &transport);
    EXPECT_EQ(status.code(), StatusCode::kNotFound);
    EXPECT_THAT(status.message(), HasSubstr(index == 1 ? "no such file" : "): no such file"));
    EXPECT_EQ(status.message().starts_with("process 1 ("), index != 1);
    EXPECT_EQ(*Least(10 - index, &transport), 8);
    EXPECT_TRUE(CheckAlike("version", "1", &transport).ok());
    EXPECT_THAT(CheckAlike("version", index == 2 ? "2" : "1", &transport).message(),
                AllOf(HasSubstr("version: found 2 in process 2 ("), HasSubstr("expected 1, as in process 0 (")));
  });
}

TEST(TcpTransport, WhoHasGoneIsNamedByAll) {
  Transports transports = ConnectAll(3);
  for (const auto& transport : transports) EXPECT_TRUE((*transport)->Check().ok());
  transports[1] = Unexpected(Internal("gone"));
  std::vector<std::thread> threads;
  for (const int index : {0, 2}) {
    threads.emplace_back([&transports, index] {
      Transport& transport = **transports[static_cast<size_t>(index)];
      int64_t word = 0;
      // They wait for each other, or for the one who has gone.
      const std::vector<Transfer> one = {TransferOf(index == 0 ? 1 : 0, &word, 1)};
      const Status status = transport.Exchange({}, one);
      EXPECT_THAT(status.message(), AllOf(HasSubstr("process 1 ("), HasSubstr("has gone")));
      EXPECT_TRUE(transport.failed());
      EXPECT_EQ(transport.Exchange({}, {}).message(), status.message());
      EXPECT_THAT(transport.Check().message(), HasSubstr("process 1 ("));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(TcpTransport, WhoIsLateIsNamed) {
  const Transports transports = ConnectAll(2, 0.2);
  int64_t word = 0;
  const std::vector<Transfer> one = {TransferOf(1, &word, 1)};
  EXPECT_THAT((*transports[0])->Exchange({}, one).message(),
              AllOf(HasSubstr("nothing came from process 1 ("), HasSubstr("within 0.2 s")));
}

// Between steps everyone but the first may end; then the first one still has a word for the others.
TEST(TcpTransport, WhoWaitsForTheFirstMindsNobodyElse) {
  Transports transports = ConnectAll(3);
  transports[1] = Unexpected(Internal("gone"));
  int64_t word = 0;
  std::thread waiting([&] {
    const std::vector<Transfer> one = {TransferOf(0, &word, 1)};
    EXPECT_TRUE((*transports[2])->Exchange({}, one, Transport::Patience::kForever).ok());
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // it sleeps by then
  const int64_t last = 7;
  const std::vector<Transfer> one = {TransferOf(2, &last, 1)};
  EXPECT_TRUE((*transports[0])->Exchange(one, {}).ok());
  waiting.join();
  EXPECT_EQ(word, 7);
}

// Where all tell all, one has heard everyone before another has.
TEST(TcpTransport, WhoHasHeardEveryoneMayEnd) {
  Transports transports = ConnectAll(3);
  const auto tell_all = [&](int index) {
    int64_t word = index, first = -1, second = -1;
    const int other = 3 - index;
    const std::vector<Transfer> sends = {TransferOf(0, &word, 1), TransferOf(other, &word, 1)};
    const std::vector<Transfer> receives = {TransferOf(0, &first, 1), TransferOf(other, &second, 1)};
    const Status status =
        (*transports[static_cast<size_t>(index)])->Exchange(sends, receives, Transport::Patience::kTogether);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(first, 0);
    EXPECT_EQ(second, other);
    transports[static_cast<size_t>(index)] = Unexpected(Internal("gone"));
  };
  std::thread one(tell_all, 1), two(tell_all, 2);
  int64_t word = 0, first = -1, second = -1;
  const std::vector<Transfer> to_one = {TransferOf(1, &word, 1)}, to_two = {TransferOf(2, &word, 1)};
  const std::vector<Transfer> receives = {TransferOf(1, &first, 1), TransferOf(2, &second, 1)};
  EXPECT_TRUE((*transports[0])->Exchange(to_one, receives, Transport::Patience::kTogether).ok());
  one.join();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // the other one sleeps by then
  EXPECT_TRUE((*transports[0])->Exchange(to_two, {}, Transport::Patience::kTogether).ok());
  two.join();
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 2);
}

TEST(TcpTransport, ProcessesThatDoNotFitAreRefused) {
  const int port = FreePort();
  const auto errors = [&](Process second, Process third) {
    const Transports transports = Connect({{.process = {0, 3}, .port = port, .timeout_seconds = 2},
                                           {.process = second, .port = port, .timeout_seconds = 2},
                                           {.process = third, .port = port, .timeout_seconds = 2}});
    std::string all;
    for (const auto& each : transports) all += each ? "fine\n" : each.error().message() + "\n";
    return all;
  };
  EXPECT_THAT(errors({1, 3}, {1, 3}), HasSubstr("there is one of this number already"));
  EXPECT_THAT(errors({1, 3}, {2, 4}), AllOf(HasSubstr("found a job of 4 processes, expected 3"),
                                            HasSubstr("the first process refuses this one")));
}

TEST(TcpTransport, WhoDoesNotComeIsNamed) {
  const Transports transports = Connect({{.process = {0, 2}, .port = FreePort(), .timeout_seconds = 0.3}});
  EXPECT_THAT(transports[0].error().message(), HasSubstr("of 2 processes, number 1 did not come within 0.3 s"));
  const Transports others = Connect({{.process = {1, 2}, .port = FreePort(), .timeout_seconds = 0.3}});
  EXPECT_THAT(others[0].error().message(), AllOf(HasSubstr("the first process"), HasSubstr("did not answer within 0.3 s at 127.0.0.1:")));
}

TEST(TcpTransport, StrangersAreSentAway) {
  const int port = FreePort();
  std::thread stranger([port] {
    const Deadline deadline(5);
    const auto socket = comm::Connect("127.0.0.1", port, deadline);
    ASSERT_TRUE(socket.has_value());
    const std::string text = "GET / HTTP/1.1\r\nHost: nobody\r\nAccept: everything that there is, and some more of it, and then again as much as that\r\n\r\n";
    EXPECT_TRUE(SendAll(*socket, text.data(), text.size(), deadline).ok());
    char byte = 0;
    EXPECT_FALSE(ReceiveAll(*socket, &byte, 1, deadline).ok());
  });
  std::thread second([port] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_TRUE(ConnectTcp({.process = {1, 2}, .port = port, .timeout_seconds = 10}).has_value());
  });
  EXPECT_TRUE(ConnectTcp({.process = {0, 2}, .port = port, .timeout_seconds = 10}).has_value());
  stranger.join();
  second.join();
}

TEST(TcpTransport, WaitingIsCancelled) {
  std::atomic<bool> cancelled{false};
  std::thread soon([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    cancelled = true;
  });
  const auto transport = ConnectTcp({.process = {0, 2}, .port = FreePort(), .cancelled = &cancelled});
  EXPECT_EQ(transport.error().code(), StatusCode::kCancelled);
  soon.join();
}

}  // namespace
}  // namespace tiercel::comm
