#include "net/async_http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "net/loopback_server.h"

namespace tiercel::net {
namespace {

using ::testing::HasSubstr;

struct Answers {
  std::map<std::string, std::string> pieces;
  std::map<std::string, Expected<HttpResponse>> ends;
};

void Get(AsyncHttpClient* client, const std::string& url, Answers* answers) {
  HttpRequestSpec spec;
  spec.url = url;
  client->Start(
      spec, [url, answers](std::string_view piece) { return answers->pieces[url] += piece, true; },
      [url, answers](Expected<HttpResponse> end) { answers->ends.emplace(url, std::move(end)); });
}

void PollUntil(AsyncHttpClient* client, const Answers& answers, size_t ends) {
  for (int i = 0; i < 10'000 && answers.ends.size() < ends; ++i) {
    ASSERT_TRUE(client->Poll(0.1).ok());
  }
  ASSERT_EQ(answers.ends.size(), ends);
}

TEST(AsyncHttpClient, ManyRequestsEachWithItsOwnAnswer) {
  LoopbackServer server([](const std::string& request) {
    return Reply(200, "answer to " + request.substr(0, request.find(" HTTP")));
  });
  auto client = AsyncHttpClient::Create({});
  ASSERT_TRUE(client) << client.error();
  Answers answers;
  for (int i = 0; i < 20; ++i) Get(client->get(), fmt::format("{}/{}", server.url(), i), &answers);
  PollUntil(client->get(), answers, 20);
  for (int i = 0; i < 20; ++i) {
    const std::string url = fmt::format("{}/{}", server.url(), i);
    ASSERT_TRUE(answers.ends.at(url)) << answers.ends.at(url).error();
    EXPECT_EQ(answers.ends.at(url)->status, 200);
    EXPECT_EQ(answers.pieces[url], fmt::format("answer to GET /{}", i));
  }
}

TEST(AsyncHttpClient, FaultsEndTheirOwnRequestAlone) {
  LoopbackServer server([](const std::string& request) {
    if (request.starts_with("GET /refused")) return Reply(400, "because");
    if (request.starts_with("GET /broken")) {
      return std::string("HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nabc");
    }
    return Reply(200, "fine");
  });
  auto client = AsyncHttpClient::Create({});
  ASSERT_TRUE(client) << client.error();
  const std::string url = server.url();
  Answers answers;
  for (const std::string target : {"/refused", "/broken", "/fine"}) {
    Get(client->get(), url + target, &answers);
  }
  Get(client->get(), "no url", &answers);
  HttpRequestSpec bad_header{"GET", url, {{"A", "b\r\nC: d"}}, ""};
  (*client)->Start(bad_header, nullptr, [&](Expected<HttpResponse> end) {
    answers.ends.emplace("header", std::move(end));
  });
  PollUntil(client->get(), answers, 5);
  EXPECT_EQ(answers.ends.at(url + "/refused")->status, 400);
  EXPECT_EQ(answers.ends.at(url + "/refused")->body, "because");
  EXPECT_EQ(answers.ends.at(url + "/broken").error().code(), StatusCode::kUnavailable);
  EXPECT_EQ(answers.pieces[url + "/broken"], "abc");
  EXPECT_EQ(answers.pieces[url + "/fine"], "fine");
  EXPECT_EQ(answers.ends.at("no url").error().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(answers.ends.at("header").error().message(), HasSubstr("line breaks"));
}

TEST(AsyncHttpClient, TheEndOfOneMayStartTheNext) {
  LoopbackServer server([](const std::string&) { return Reply(200, "x"); });
  auto client = AsyncHttpClient::Create({});
  ASSERT_TRUE(client) << client.error();
  int ended = 0;
  std::function<void()> start = [&] {
    (*client)->Start({"GET", server.url(), {}, ""}, nullptr, [&](Expected<HttpResponse> end) {
      EXPECT_TRUE(end) << end.error();
      if (++ended < 5) start();
    });
  };
  start();
  for (int i = 0; i < 10'000 && ended < 5; ++i) ASSERT_TRUE((*client)->Poll(0.1).ok());
  EXPECT_EQ(ended, 5);
  EXPECT_EQ(server.requests().size(), 5u);
}

TEST(AsyncHttpClient, WhatRunsIsCutOffAtItsEnd) {
  LoopbackServer server([](const std::string&) { return Reply(200, "x"); });
  auto client = AsyncHttpClient::Create({});
  ASSERT_TRUE(client) << client.error();
  (*client)->Start({"GET", server.url(), {}, ""}, nullptr,
                   [](Expected<HttpResponse>) { FAIL() << "called after the end"; });
  client->reset();
}

}  // namespace
}  // namespace tiercel::net
