#include "net/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "net/loopback_server.h"

namespace tiercel::net {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const HttpHeaders kKey = {{"Authorization", "Bearer secret"}};

TEST(HttpClient, HeadersBodyAndStatus) {
  LoopbackServer server([](const std::string&) { return Reply(404, "no", "X-Note:  a b \r\n"); });
  HttpClient client;
  const auto response = client.Get(server.url() + "/a?b", kKey);
  ASSERT_TRUE(response) << response.error();
  EXPECT_EQ(response->status, 404);
  EXPECT_EQ(response->body, "no");
  EXPECT_EQ(response->header("x-note"), "a b");
  EXPECT_EQ(response->final_url, server.url() + "/a?b");
  EXPECT_THAT(server.requests()[0], HasSubstr("GET /a?b HTTP/1.1\r\n"));
  EXPECT_THAT(server.requests()[0], HasSubstr("Authorization: Bearer secret\r\n"));
  const auto posted = client.PostJson(server.url() + "/p", "{}");
  ASSERT_TRUE(posted) << posted.error();
  EXPECT_THAT(server.requests()[1], HasSubstr("POST /p HTTP/1.1\r\n"));
  EXPECT_THAT(server.requests()[1], HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_FALSE(client.Get(server.url(), {{"Authorization", "a\r\nX-Evil: b"}}));
}

TEST(HttpClient, TheKeyStaysWithItsOrigin) {
  LoopbackServer other([](const std::string&) { return Reply(200, "there"); });
  LoopbackServer server([&](const std::string& request) {
    if (request.starts_with("GET /same ")) return Reply(302, "", "Location: /end\r\n");
    if (request.starts_with("GET /end ")) return Reply(200, "here");
    return Reply(302, "moved", fmt::format("Location: {}/x\r\n", other.url()));
  });
  HttpClient client;
  EXPECT_EQ(client.Get(server.url() + "/same", kKey)->body, "here");
  EXPECT_THAT(server.requests()[1], HasSubstr("Bearer secret"));
  // The same host, another port.
  EXPECT_EQ(client.Get(server.url() + "/other", kKey)->body, "there");
  EXPECT_THAT(other.requests()[0], Not(HasSubstr("secret")));
}

TEST(HttpClient, RedirectsEnd) {
  LoopbackServer server([](const std::string&) { return Reply(302, "", "Location: /again\r\n"); });
  const auto response = HttpClient().Get(server.url());
  ASSERT_FALSE(response);
  EXPECT_THAT(response.error().message(), HasSubstr("more than 10 redirects"));
  EXPECT_EQ(server.requests().size(), 11u);
  HttpRequestSpec once{"GET", server.url(), {}, ""};
  once.follow_redirects = false;
  EXPECT_EQ(HttpClient().Send(once)->status, 302);
}

TEST(HttpClient, RedirectsToOtherSchemesAreRefused) {
  for (const char* location : {"file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/"}) {
    LoopbackServer server([&](const std::string&) {
      return Reply(302, "", fmt::format("Location: {}\r\n", location));
    });
    EXPECT_FALSE(HttpClient().Get(server.url())) << location;
  }
}

TEST(HttpClient, SizesAreBounded) {
  LoopbackServer server([](const std::string& request) {
    if (request.starts_with("GET /head ")) {
      std::string head;
      for (int i = 0; i < 100; ++i) head += fmt::format("X-{}: {}\r\n", i, std::string(1000, 'a'));
      return Reply(200, "", head);
    }
    return Reply(200, std::string(2000, 'a'));
  });
  HttpClientOptions options;
  options.max_body_bytes = 1999;
  HttpClient client(options);
  EXPECT_THAT(client.Get(server.url()).error().message(), HasSubstr("larger than 1999 bytes"));
  EXPECT_THAT(client.Get(server.url() + "/head").error().message(), HasSubstr("head is larger"));
  // A sink takes bodies of any size.
  size_t taken = 0;
  ASSERT_TRUE(client.Send({"GET", server.url(), {}, ""}, [&](std::string_view piece) {
    taken += piece.size();
    return true;
  }));
  EXPECT_EQ(taken, 2000u);
}

TEST(HttpClient, ACutAnswerIsAnError) {
  LoopbackServer server([](const std::string&) {
    return "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
  });
  const auto response = HttpClient().Get(server.url());
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), StatusCode::kUnavailable);
}

TEST(HttpClient, StopsWhileItWaits) {
  std::atomic<bool> stop{false};
  LoopbackServer server([&](const std::string&) {
    stop = true;
    std::this_thread::sleep_for(std::chrono::seconds(3));
    return Reply(200, "");
  });
  HttpRequestSpec request{"GET", server.url(), {}, ""};
  request.stop = &stop;
  const auto response = HttpClient().Send(request);
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), StatusCode::kCancelled);
}

TEST(HttpClient, AStalledAnswerEnds) {
  LoopbackServer server([&](const std::string&) {
    std::this_thread::sleep_for(std::chrono::seconds(4));
    return Reply(200, "");
  });
  HttpClientOptions options;
  options.stall_timeout_s = 1;
  const auto response = HttpClient(options).Get(server.url());
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), StatusCode::kUnavailable);
}

TEST(HttpClient, RetryAfterIsSecondsOrADate) {
  LoopbackServer server([](const std::string&) { return Reply(429, "", "Retry-After: 7\r\n"); });
  EXPECT_EQ(HttpClient().Get(server.url())->retry_after_s, 7);
}

TEST(HttpClient, ProxiesByTheirVariables) {
  LoopbackServer proxy([](const std::string&) { return Reply(200, "by proxy"); });
  const auto get = [&](const Environ& environ, const std::string& url) {
    const auto response = HttpClient(HttpClientOptions::FromEnviron(environ)).Get(url, kKey);
    return response ? response->body : response.error().message();
  };
  // The name resolves nowhere, so that only the proxy can have answered.
  const std::string url = "http://hub.invalid/x";
  for (const char* name : {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"}) {
    EXPECT_EQ(get({{name, proxy.url()}}, url), "by proxy") << name;
  }
  EXPECT_THAT(proxy.requests()[0], HasSubstr("GET http://hub.invalid"));
  EXPECT_EQ(get({{"http_proxy", proxy.url()}, {"HTTP_PROXY", "http://127.0.0.1:9"}}, url),
            "by proxy");
  for (const char* name : {"no_proxy", "NO_PROXY"}) {
    for (const char* hosts : {"hub.invalid", "a.example,.invalid", "*"}) {
      EXPECT_THAT(get({{"ALL_PROXY", proxy.url()}, {name, hosts}}, url), HasSubstr("resolve"))
          << name << hosts;
    }
  }
  EXPECT_THAT(get({{"HTTPS_PROXY", proxy.url()}}, url), HasSubstr("resolve"));
  // This machine is never behind a proxy.
  LoopbackServer server([](const std::string&) { return Reply(200, "direct"); });
  EXPECT_EQ(get({{"ALL_PROXY", proxy.url()}}, server.url()), "direct");
}

TEST(HttpClient, HttpsGoesThroughItsProxyByConnect) {
  LoopbackServer proxy([](const std::string&) { return Reply(403, ""); });
  const auto response =
      HttpClient(HttpClientOptions::FromEnviron({{"HTTPS_PROXY", proxy.url()}}))
          .Get("https://hub.invalid/x", kKey);
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), StatusCode::kUnavailable);
  ASSERT_FALSE(proxy.requests().empty());
  EXPECT_THAT(proxy.requests()[0], HasSubstr("CONNECT hub.invalid:443"));
  EXPECT_THAT(proxy.requests()[0], Not(HasSubstr("secret")));
}

TEST(HttpClient, CertificatesByTheirVariables) {
  for (const char* name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}) {
    const auto options = HttpClientOptions::FromEnviron({{name, "/nowhere/ca.pem"}});
    EXPECT_EQ(options.ca_path, "/nowhere/ca.pem");
    LoopbackServer server([](const std::string&) { return Reply(200, ""); });
    const auto response =
        HttpClient(options).Get(fmt::format("https://127.0.0.1:{}/", server.port()));
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code(), StatusCode::kFailedPrecondition) << response.error();
    EXPECT_THAT(response.error().message(), HasSubstr(name));
  }
}

}  // namespace
}  // namespace tiercel::net
