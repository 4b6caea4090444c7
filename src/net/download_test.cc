#include "net/download.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "net/loopback_server.h"

namespace tiercel::net {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::string kBody = "0123456789";

// The first byte that a request's Range asks for; −1: no Range.
int64_t RangeBegin(const std::string& request) {
  const size_t at = request.find("Range: bytes=");
  return at == std::string::npos ? -1 : std::strtoll(request.c_str() + at + 13, nullptr, 10);
}

// What an honest server with `body` answers.
std::string Honest(const std::string& request, const std::string& body) {
  const int64_t begin = RangeBegin(request);
  if (begin < 0) return Reply(200, body);
  const auto size = static_cast<int64_t>(body.size());
  if (begin >= size) return Reply(416, "", fmt::format("Content-Range: bytes */{}\r\n", size));
  return Reply(206, body.substr(static_cast<size_t>(begin)),
               fmt::format("Content-Range: bytes {}-{}/{}\r\n", begin, size - 1, size));
}

class DownloadTest : public ::testing::Test {
 protected:
  DownloadTest() : path_(fmt::format("{}download_test_{}", testing::TempDir(), ::getpid())) {
    fs::remove(path_);
  }
  ~DownloadTest() override { fs::remove(path_); }

  Status Run(const LoopbackServer& server, int64_t size = 10) {
    DownloadSpec spec;
    spec.url = server.url() + "/f";
    spec.path = path_;
    spec.size = size;
    spec.retry.first_wait_s = 0.001;
    HttpClient client;
    return Download(&client, spec, [this](int64_t done) { last_progress_ = done; });
  }
  std::string Content() const {
    std::stringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }
  void Write(const std::string& text) { std::ofstream(path_) << text; }

  const std::string path_;
  int64_t last_progress_ = -1;
};

TEST_F(DownloadTest, GoesOnAfterEveryDrop) {
  int count = 0;
  LoopbackServer server([&](const std::string& request) {
    ++count;
    if (count % 3 == 0) return Reply(500, "");
    const std::string reply = Honest(request, kBody);
    return reply.substr(0, reply.find("\r\n\r\n") + 4 + 2);  // two bytes of the body, then nothing
  });
  EXPECT_TRUE(Run(server).ok());
  EXPECT_EQ(Content(), kBody);
  EXPECT_EQ(last_progress_, 10);
  EXPECT_EQ(RangeBegin(server.requests()[0]), -1);
  EXPECT_EQ(RangeBegin(server.requests()[1]), 2);
}

TEST_F(DownloadTest, GivesUpWhereNothingComesAndKeepsWhatCame) {
  LoopbackServer server([&](const std::string& request) {
    return RangeBegin(request) < 0 ? Reply(200, kBody).substr(0, Reply(200, kBody).size() - 4)
                                   : std::string();
  });
  const Status status = Run(server);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("run it again"));
  EXPECT_EQ(Content(), "012345");
  EXPECT_LE(server.requests().size(), 6u);
}

TEST_F(DownloadTest, AWholeFileIsNotAskedFor) {
  LoopbackServer server([](const std::string& request) { return Honest(request, kBody); });
  Write(kBody);
  EXPECT_TRUE(Run(server).ok());
  EXPECT_TRUE(server.requests().empty());
  // Of unknown size it is, and the server says that nothing is left.
  EXPECT_TRUE(Run(server, -1).ok());
  EXPECT_EQ(Content(), kBody);
}

TEST_F(DownloadTest, AServerThatIgnoresTheRangeStartsAnew) {
  LoopbackServer server([](const std::string&) { return Reply(200, kBody); });
  Write("xxxx");
  EXPECT_TRUE(Run(server).ok());
  EXPECT_EQ(Content(), kBody);
}

TEST_F(DownloadTest, AnotherRangeThanAskedForStartsAnew) {
  LoopbackServer server([](const std::string& request) {
    if (RangeBegin(request) < 0) return Reply(200, kBody);
    return Reply(206, kBody, "Content-Range: bytes 0-9/10\r\n");
  });
  Write("xxxx");
  EXPECT_TRUE(Run(server).ok());
  EXPECT_EQ(Content(), kBody);
}

TEST_F(DownloadTest, MoreThanTheServerHasStartsAnew) {
  LoopbackServer server([](const std::string& request) { return Honest(request, kBody); });
  Write(kBody + "and more");
  EXPECT_TRUE(Run(server, 10).ok());
  EXPECT_EQ(Content(), kBody);
  Write(kBody + "and more");
  EXPECT_TRUE(Run(server, -1).ok());
  EXPECT_EQ(Content(), kBody);
}

TEST_F(DownloadTest, MoreThanTheHubSaidIsNotTaken) {
  LoopbackServer longer([](const std::string&) { return Reply(200, std::string(5000, 'a')); });
  EXPECT_THAT(Run(longer).message(), HasSubstr("has 5000 bytes, expected 10"));
  LoopbackServer endless([](const std::string&) {
    return "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + std::string(5000, 'a');
  });
  EXPECT_THAT(Run(endless).message(), HasSubstr("more than 10 bytes"));
  EXPECT_LE(Content().size(), 10u);
}

TEST_F(DownloadTest, LastingAnswersEndItAtOnce) {
  for (const int status : {401, 403, 404}) {
    LoopbackServer server([&](const std::string&) { return Reply(status, "no"); });
    EXPECT_THAT(Run(server).message(), HasSubstr(fmt::format("HTTP {}", status)));
    EXPECT_EQ(server.requests().size(), 1u);
  }
}

TEST_F(DownloadTest, AFullDiskIsAnErrorAndWhatCameStays) {
  LoopbackServer server([](const std::string&) { return Reply(200, kBody); });
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{4, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = Run(server);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr(path_ + ": cannot be written"));
  EXPECT_EQ(Content(), "0123");
}

TEST_F(DownloadTest, ALinkIsNotWrittenThrough) {
  LoopbackServer server([](const std::string&) { return Reply(200, kBody); });
  const std::string target = path_ + "_target";
  fs::create_symlink(target, path_);
  EXPECT_FALSE(Run(server).ok());
  EXPECT_FALSE(fs::exists(target));
}

TEST_F(DownloadTest, Stops) {
  std::atomic<bool> stop{true};
  LoopbackServer server([](const std::string&) { return Reply(503, "", "Retry-After: 50\r\n"); });
  DownloadSpec spec;
  spec.url = server.url();
  spec.path = path_;
  spec.stop = &stop;
  HttpClient client;
  EXPECT_EQ(Download(&client, spec).code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace tiercel::net
