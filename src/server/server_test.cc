// The server over loopback with a fake engine: protocol, disconnects, slow readers, many streams.
#include "server/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "api/test_support.h"
#include "net/http_client.h"
#include "net/sse_reader.h"
#include "server/http_server.h"

namespace tiercel::server {
namespace {

using engine::FinishReason;
using engine::StreamEvent;
using net::HttpClient;
using net::HttpResponse;
using net::SseReader;

// Answers every prompt with its own bytes, over and over, one token a step, up to max_tokens.
class EchoEngine final : public engine::Engine {
 public:
  explicit EchoEngine(std::chrono::microseconds step) : step_(step), thread_([this] { Run(); }) {
    options_.max_model_len = 1 << 20;
  }
  ~EchoEngine() override { Drain(0); }

  Expected<std::unique_ptr<engine::Stream>> Submit(engine::Request request,
                                                   std::function<void()> on_news) override {
    std::lock_guard lock(mutex_);
    if (stopping_) return Unexpected(Unavailable("the server is shutting down"));
    if (static_cast<int>(running_.size()) >= capacity) {
      return Unexpected(ResourceExhausted("the queue is full"));
    }
    auto state = std::make_shared<State>();
    state->request = std::move(request);
    state->on_news = std::move(on_news);
    running_.push_back(state);
    return std::make_unique<EchoStream>(this, state);
  }
  void SetStepHook(std::function<void()> hook) override { hook_ = std::move(hook); }
  const engine::EngineOptions& options() const override { return options_; }
  std::vector<engine::Stats> GetStats() const override {
    std::lock_guard lock(mutex_);
    engine::Stats stats;
    stats.num_requests_running = static_cast<int64_t>(running_.size());
    stats.finished_abort = aborted_;
    return {stats};
  }
  bool ResetPrefixCache() override { return true; }
  bool Sleep(bool) override { return true; }
  void WakeUp() override {}
  bool sleeping() const override { return false; }
  bool healthy() const override { return healthy_.load(); }
  void Drain(double grace) override {
    {
      std::unique_lock lock(mutex_);
      stopping_ = true;
      const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(grace);
      while (!running_.empty() && std::chrono::steady_clock::now() < end) {
        lock.unlock();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        lock.lock();
      }
      abort_all_ = true;
    }
    if (thread_.joinable()) thread_.join();
  }

  int capacity = 100000;
  void Break() { healthy_.store(false); }
  void Pause(bool paused) { paused_.store(paused); }  // no tokens meanwhile

 private:
  struct State {
    engine::Request request;
    std::function<void()> on_news;
    std::vector<StreamEvent> events;
    int64_t produced = 0;
    bool done = false;
    bool info_taken = false;
  };

  class EchoStream final : public engine::Stream {
   public:
    EchoStream(EchoEngine* owner, std::shared_ptr<State> state)
        : owner_(owner), state_(std::move(state)) {}
    ~EchoStream() override { owner_->Cancel(state_); }
    bool Poll(std::vector<StreamEvent>* events) override {
      std::lock_guard lock(owner_->mutex_);
      if (state_->events.empty()) return false;
      for (auto& event : state_->events) events->push_back(std::move(event));
      state_->events.clear();
      return true;
    }
    bool Wait(double) override { return false; }
    void Stop(int) override { owner_->Cancel(state_); }
    bool finished() const override {
      std::lock_guard lock(owner_->mutex_);
      return state_->done && state_->events.empty();
    }
    std::optional<engine::PromptInfo> TakePromptInfo() override {
      if (std::exchange(state_->info_taken, true)) return std::nullopt;
      return engine::PromptInfo();
    }

   private:
    EchoEngine* owner_;
    std::shared_ptr<State> state_;
  };

  void Cancel(const std::shared_ptr<State>& state) {
    std::lock_guard lock(mutex_);
    if (!state->done) ++aborted_;
    state->done = true;
    std::erase(running_, state);
  }

  void Run() {
    while (true) {
      std::vector<std::shared_ptr<State>> told;
      bool ended = false;
      {
        std::lock_guard lock(mutex_);
        for (const auto& state : running_) {
          if (paused_.load() && !abort_all_) break;
          if (Step(*state)) told.push_back(state);
        }
        std::erase_if(running_, [](const auto& state) { return state->done; });
        ended = abort_all_ && running_.empty();
      }
      for (const auto& state : told) state->on_news();
      if (!told.empty() && hook_) hook_();
      if (ended) return;
      std::this_thread::sleep_for(step_);
    }
  }

  // True if the stream had nothing to poll before.
  bool Step(State& state) {
    const bool was_empty = state.events.empty();
    StreamEvent event;
    if (abort_all_) {
      event.finish = FinishReason::kAbort;
    } else {
      const auto& prompt = state.request.prompt;
      const auto at = static_cast<size_t>(state.produced++) % prompt.size();
      const int64_t room = options_.max_model_len - static_cast<int64_t>(prompt.size());
      event = api::Event({prompt[at]},
                         state.produced == std::min(state.request.params->max_tokens, room)
                             ? FinishReason::kLength
                             : FinishReason::kNone);
    }
    state.done = event.finish != FinishReason::kNone;
    state.events.push_back(std::move(event));
    return was_empty;
  }

  engine::EngineOptions options_;
  const std::chrono::microseconds step_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<State>> running_;
  std::function<void()> hook_;
  uint64_t aborted_ = 0;
  bool stopping_ = false;
  bool abort_all_ = false;
  std::atomic<bool> healthy_{true};
  std::atomic<bool> paused_{false};
  std::thread thread_;  // last: it uses all of the above
};

// A plain socket, for what no proper client sends.
class RawClient {
 public:
  explicit RawClient(int port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) {
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  ~RawClient() { Close(); }
  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void Send(std::string_view text) {
    EXPECT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  // Reads until `until` is in what has come, the other side closes, or five seconds are over.
  std::string ReadUntil(std::string_view until) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (text_.find(until) == std::string::npos && std::chrono::steady_clock::now() < end) {
      pollfd event{fd_, POLLIN, 0};
      if (::poll(&event, 1, 100) <= 0) continue;
      char piece[4096];
      const ssize_t size = ::recv(fd_, piece, sizeof(piece), 0);
      if (size <= 0) break;
      text_.append(piece, static_cast<size_t>(size));
    }
    return text_;
  }
  std::string ReadToEnd() { return ReadUntil("\xff\xff"); }

 private:
  int fd_;
  std::string text_;
};

std::string Post(std::string_view path, std::string_view body, std::string_view headers = "") {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n{}",
      path, headers, body.size(), body);
}

class ServerTest : public testing::Test {
 protected:
  void Start(std::chrono::microseconds step = std::chrono::microseconds(200)) {
    options_.host = "127.0.0.1";
    options_.port = 0;
    options_.served_model_names = {"test"};
    options_.access_log = false;
    auto server = Server::Bind(options_);
    ASSERT_TRUE(server) << server.error();
    server_ = std::move(*server);
    url_ = fmt::format("http://127.0.0.1:{}", server_->port());
    step_ = step;
  }
  void Load() {
    auto engine = std::make_unique<EchoEngine>(step_);
    engine_ = engine.get();
    const api::ModelInfo info = api::TestModel();
    const Status status = server_->SetModel({std::move(engine), info.tokenizer, info.chat_template,
                                             "/models/test", api::kTestVocab, {}, info.template_pool, {}, {}});
    EXPECT_TRUE(status.ok()) << status.message();
  }
  void StartLoaded(std::chrono::microseconds step = std::chrono::microseconds(200)) {
    Start(step);
    Load();
  }
  bool WaitForRunning(int64_t count) {
    for (int i = 0; i < 6000; ++i) {
      if (engine_->GetStats()[0].num_requests_running == count) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  HttpResponse Get(const std::string& path) {
    auto response = HttpClient().Get(url_ + path);
    EXPECT_TRUE(response) << response.error();
    return response ? *response : HttpResponse();
  }
  HttpResponse PostJson(const std::string& path, const std::string& body) {
    auto response = HttpClient().PostJson(url_ + path, body);
    EXPECT_TRUE(response) << response.error();
    return response ? *response : HttpResponse();
  }

  ServerOptions options_;
  std::unique_ptr<Server> server_;
  EchoEngine* engine_ = nullptr;
  std::chrono::microseconds step_{200};
  std::string url_;
};

TEST_F(ServerTest, AcceptsNoConnectionBeforeTheModel) {
  Start();
  EXPECT_FALSE(HttpClient().Get(url_ + "/health"));
  Load();
  EXPECT_EQ(Get("/health").status, 200);
}

TEST_F(ServerTest, EarlyHealthAnswersBeforeAndAfterTheModel) {
  options_.early_health = true;
  Start();
  EXPECT_EQ(Get("/health").status, 503);
  EXPECT_EQ(Get("/v1/models").status, 503);
  EXPECT_EQ(PostJson("/v1/completions", R"({"prompt":"a"})").status, 503);
  EXPECT_NE(Get("/metrics").body.find("vllm:num_requests_running{model_name=\"test\""),
            std::string::npos);
  Load();
  EXPECT_EQ(Get("/health").status, 200);
  EXPECT_NE(Get("/v1/models").body.find(R"("id":"test")"), std::string::npos);
}

// While a prompt is computed: in a stream of messages, its beginning and then pings; in others, comments.
TEST_F(ServerTest, QuietStreamsShowThatTheyLive) {
  options_.sse_keep_alive_interval_s = 0.01;  // at each tick
  StartLoaded();
  engine_->Pause(true);
  RawClient messages(server_->port()), chat(server_->port());
  const std::string_view body =
      R"({"messages":[{"role":"user","content":"a"}],"max_tokens":3,"stream":true})";
  messages.Send(Post("/v1/messages", body));
  chat.Send(Post("/v1/chat/completions", body));
  std::string events = messages.ReadUntil("event: ping\ndata: {\"type\":\"ping\"}\n\n");
  EXPECT_LT(events.find("event: message_start"), events.find("event: ping")) << events;
  EXPECT_EQ(events.find("content_block"), std::string::npos) << events;
  EXPECT_NE(chat.ReadUntil(": keep-alive\n\n").find(": keep-alive\n\n"), std::string::npos);
  engine_->Pause(false);
  events = messages.ReadUntil("event: message_stop");
  EXPECT_EQ(events.find("event: message_start"), events.rfind("event: message_start")) << events;
  EXPECT_NE(events.find("event: message_stop"), std::string::npos) << events;
  EXPECT_NE(chat.ReadUntil("[DONE]").find("[DONE]"), std::string::npos);
}

TEST_F(ServerTest, BusyPortIsNamed) {
  Start();
  ServerOptions second = options_;
  second.port = server_->port();
  const auto result = Server::Bind(second);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(result.error().message().find(std::to_string(second.port)), std::string::npos);
}

TEST_F(ServerTest, StreamedAndWholeAnswersAgree) {
  StartLoaded();
  const auto whole = PostJson("/v1/completions", R"({"prompt":"é客x","max_tokens":20})");
  EXPECT_EQ(whole.status, 200);
  EXPECT_NE(whole.body.find(R"("text":"é客xé客xé客xé)"), std::string::npos) << whole.body;
  std::string text;
  int done = 0;
  SseReader reader([&](std::string_view, std::string_view data) {
    if (data == "[DONE]") {
      ++done;
    } else {
      const size_t at = data.find(R"("text":")") + 8;
      text += data.substr(at, data.find('"', at) - at);
    }
    return true;
  });
  HttpClient client;
  const auto response = client.Send(
      {"POST", url_ + "/v1/completions", {{"Content-Type", "application/json"}},
       R"({"prompt":"é客x","max_tokens":20,"stream":true})"},
      [&](std::string_view piece) { return reader.Feed(piece); });
  ASSERT_TRUE(response) << response.error();
  EXPECT_EQ(*response->header("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(done, 1);
  EXPECT_NE(whole.body.find(fmt::format(R"("text":"{}")", text)), std::string::npos) << text;
}

TEST_F(ServerTest, TidiesPathsAndNamesErrors) {
  options_.root_path = "/proxy";
  StartLoaded();
  EXPECT_EQ(Get("//v1///models/").status, 200);
  EXPECT_EQ(Get("/proxy/v1/models").status, 200);
  EXPECT_EQ(Get("/version?x=1").status, 200);
  const auto missing = Get("/v1/nothing");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.body,
            R"({"error":{"message":"Not Found","type":"NotFoundError","param":null,"code":404}})");
  const auto wrong = Get("/v1/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(*wrong.header("Allow"), "POST");
  const auto type = HttpClient().Send({"POST", url_ + "/v1/completions", {}, "{}"});
  EXPECT_EQ(type->status, 400);
  EXPECT_EQ(PostJson("/v1/completions", "{").status, 400);
}

TEST_F(ServerTest, KeysGuardTheApiOnly) {
  options_.api_keys = {"k1", "key2"};
  StartLoaded();
  const auto status = [&](const std::string& path, const char* value) {
    HttpHeaders headers;
    if (value != nullptr) headers.emplace_back("Authorization", value);
    return HttpClient().Get(url_ + path, headers)->status;
  };
  EXPECT_EQ(status("/v1/models", "Bearer k1"), 200);
  EXPECT_EQ(status("/v1/models", "bearer key2"), 200);
  for (const char* bad : {"Bearer k", "Bearer k11", "Bearer ", "Basic k1", "k1", "Bearer"}) {
    EXPECT_EQ(status("/v1/models", bad), 401) << bad;
  }
  EXPECT_EQ(status("//v1/models", nullptr), 401);
  EXPECT_EQ(status("/health", nullptr), 200);
  EXPECT_EQ(status("/metrics", nullptr), 200);
  EXPECT_EQ(HttpClient().Get(url_ + "/v1/models")->body, R"({"error":"Unauthorized"})");
}

// Nothing of a request is read that is not let in.
TEST_F(ServerTest, ThePageNeedsNoKeyAndNoModel) {
  options_.api_keys = {"k"};
  options_.early_health = true;
  Start();
  const auto page = Get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(*page.header("Content-Type"), "text/html; charset=utf-8");
  EXPECT_EQ(page.body.rfind("<!DOCTYPE html>", 0), 0u);
  EXPECT_NE(page.header("Content-Security-Policy")->find("default-src 'none'"), std::string::npos);
  RawClient known(server_->port());
  known.Send(fmt::format("GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: {}\r\nConnection: close\r\n\r\n",
                         *page.header("ETag")));
  const std::string answer = known.ReadToEnd();
  EXPECT_EQ(answer.rfind("HTTP/1.1 304 Not Modified\r\n", 0), 0u) << answer;
  EXPECT_EQ(answer.find("Content-Length"), std::string::npos);
  EXPECT_EQ(answer.substr(answer.size() - 4), "\r\n\r\n");
}

TEST_F(ServerTest, ThePageCanBeTurnedOff) {
  options_.ui = false;
  StartLoaded();
  EXPECT_EQ(Get("/").status, 404);
}

TEST_F(ServerTest, KeyRouteAndMethodAreLookedAtBeforeTheBody) {
  options_.api_keys = {"k1"};
  StartLoaded();
  const std::pair<const char*, int> cases[] = {
      {"POST /v1/completions HTTP/1.1\r\nAuthorization: Bearer no\r\n", 401},
      {"POST /v1/completions HTTP/1.1\r\n", 401},
      {"POST /nothing HTTP/1.1\r\nAuthorization: Bearer k1\r\n", 404},
      {"PUT /v1/completions HTTP/1.1\r\nAuthorization: Bearer k1\r\n", 405},
      {"DELETE /health HTTP/1.1\r\n", 405},
  };
  for (const auto& [head, status] : cases) {
    for (const char* framing : {"Content-Length: 60000000\r\n", "Transfer-Encoding: chunked\r\n",
                                "Content-Length: 60000000\r\nExpect: 100-continue\r\n"}) {
      RawClient client(server_->port());
      client.Send(fmt::format("{}{}\r\n", head, framing));
      const std::string answer = client.ReadToEnd();
      EXPECT_EQ(answer.substr(0, 13), fmt::format("HTTP/1.1 {} ", status)) << head << framing;
      EXPECT_NE(answer.find("Connection: close"), std::string::npos);
    }
  }
}

TEST_F(ServerTest, CorsPreflight) {
  options_.allowed_origins = {"http://a.example"};
  options_.api_keys = {"k"};
  StartLoaded();
  HttpClient client;
  const auto ask = [&](const char* origin) {
    return *client.Send({"OPTIONS", url_ + "/v1/chat/completions",
                         {{"Origin", origin},
                          {"Access-Control-Request-Method", "POST"},
                          {"Access-Control-Request-Headers", "authorization,x-stainless-os"}},
                         ""});
  };
  const auto good = ask("http://a.example");
  EXPECT_EQ(good.status, 200);
  EXPECT_EQ(*good.header("Access-Control-Allow-Origin"), "http://a.example");
  EXPECT_EQ(*good.header("Access-Control-Allow-Headers"), "authorization,x-stainless-os");
  EXPECT_EQ(*good.header("Vary"), "Origin");
  EXPECT_EQ(ask("http://b.example").status, 400);
}

TEST_F(ServerTest, RequestIdsAreEchoedWhenPlain) {
  options_.enable_request_id_headers = true;
  StartLoaded();
  HttpClient client;
  const auto with = [&](const std::string& id) {
    const auto answer =
        client.PostJson(url_ + "/v1/completions", R"({"prompt":"a"})", {{"X-Request-Id", id}});
    EXPECT_TRUE(answer) << answer.error().message();
    return answer ? answer->header("X-Request-Id").value_or("") : "";
  };
  EXPECT_EQ(with("abc-1"), "abc-1");
  EXPECT_EQ(with(std::string(5000, 'a')).size(), 32u);
  EXPECT_EQ(with("a b").size(), 32u);
}

// A client that sends the next request in the moment it has the answer, in more than one piece.
TEST_F(ServerTest, QuickNextRequestsInPiecesAreWhole) {
  StartLoaded();
  HttpClient client;
  for (int i = 0; i < 300; ++i) {
    const auto answer = client.PostJson(url_ + "/v1/completions", R"({"prompt":"a"})",
                                        {{"X-Padding", std::string(20000, 'a')}});
    ASSERT_TRUE(answer) << answer.error().message();
    ASSERT_EQ(answer->status, 200) << i << ": " << answer->body;
  }
}

TEST_F(ServerTest, PipelinedRequestsAreAnsweredInOrder) {
  StartLoaded();
  RawClient client(server_->port());
  std::string requests;
  for (const char* prompt : {"one", "two", "three"}) {
    requests += Post("/v1/completions", fmt::format(R"({{"prompt":"{}","max_tokens":5}})", prompt));
  }
  client.Send(requests + "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string text = client.ReadToEnd();
  const size_t one = text.find("oneon");
  const size_t two = text.find("twotw");
  const size_t three = text.find("three");
  EXPECT_LT(one, two);
  EXPECT_LT(two, three);
  EXPECT_NE(three, std::string::npos) << text;
  EXPECT_NE(text.find("Connection: close"), std::string::npos);
}

TEST_F(ServerTest, HeadExpectAndHttp10) {
  StartLoaded();
  RawClient head(server_->port());
  head.Send("HEAD /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answer = head.ReadToEnd();
  EXPECT_NE(answer.find("200 OK"), std::string::npos);
  EXPECT_EQ(answer.find("{"), std::string::npos);

  RawClient expect(server_->port());
  const std::string body = R"({"prompt":"abc","max_tokens":3})";
  expect.Send(fmt::format("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
                          "\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.size()));
  EXPECT_NE(expect.ReadUntil("100 Continue").find("100 Continue"), std::string::npos);
  expect.Send(body);
  EXPECT_NE(expect.ReadUntil("\"usage\"").find(R"("text":"abc")"), std::string::npos);

  RawClient old(server_->port());
  old.Send(fmt::format("POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
                       "Content-Length: {}\r\n\r\n{}", 46, R"({"prompt":"abc","max_tokens":3,"stream":true })"));
  const std::string streamed = old.ReadToEnd();
  EXPECT_EQ(streamed.find("Transfer-Encoding"), std::string::npos);
  EXPECT_NE(streamed.find("data: [DONE]"), std::string::npos) << streamed;
}

TEST_F(ServerTest, BadHttpGetsAnErrorAndAClosedConnection) {
  options_.max_request_body_bytes = 1000;
  StartLoaded();
  const auto answer = [&](const std::string& text) {
    RawClient client(server_->port());
    client.Send(text);
    return client.ReadToEnd();
  };
  EXPECT_NE(answer("GARBAGE\r\n\r\n").find("HTTP/1.1 400"), std::string::npos);
  EXPECT_NE(answer("GET / HTTP/1.1\r\nX: " + std::string(100000, 'a') + "\r\n\r\n").find("431"),
            std::string::npos);
  EXPECT_NE(answer("POST /tokenize HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n").find("413"),
            std::string::npos);
  EXPECT_NE(answer("POST /tokenize HTTP/1.1\r\nContent-Length: -1\r\n\r\n").find("400"),
            std::string::npos);
  std::string headers;
  for (int i = 0; i < 300; ++i) headers += fmt::format("h{}: x\r\n", i);
  EXPECT_NE(answer("GET /health HTTP/1.1\r\n" + headers + "\r\n").find("431"), std::string::npos);
  EXPECT_EQ(Get("/health").status, 200);
}

TEST_F(ServerTest, SlowHeadersAreCutOff) {
  options_.header_timeout_s = 0.5;
  StartLoaded();
  RawClient client(server_->port());
  client.Send("GET /health HT");
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(client.ReadToEnd(), "");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(4));
}

TEST_F(ServerTest, ClosedConnectionsAbort) {
  StartLoaded(std::chrono::milliseconds(5));
  for (const char* stream : {"true", "false"}) {
    RawClient client(server_->port());
    client.Send(Post("/v1/completions",
                     fmt::format(R"({{"prompt":"abc","max_tokens":100000,"stream":{}}})", stream)));
    ASSERT_TRUE(WaitForRunning(1));
    client.Close();
    EXPECT_TRUE(WaitForRunning(0)) << "stream: " << stream;
  }
  EXPECT_EQ(engine_->GetStats()[0].finished_abort, 2u);
}

TEST_F(ServerTest, SlowReadersHoldNobodyAndLoseNothing) {
  StartLoaded(std::chrono::microseconds(20));
  RawClient slow(server_->port(), 4096);
  slow.Send(Post("/v1/completions",
                 R"({"prompt":"abcdefghij","max_tokens":30000,"stream":true})"));
  ASSERT_TRUE(WaitForRunning(1));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(PostJson("/v1/completions", R"({"prompt":"q","max_tokens":5})").status, 200);
  }
  EXPECT_TRUE(WaitForRunning(0));  // the engine is through though nobody has read
  const std::string text = slow.ReadUntil("[DONE]");
  EXPECT_NE(text.find("[DONE]"), std::string::npos);
  std::string body;
  for (size_t at = text.find(R"("text":")"); at != std::string::npos; at = text.find(R"("text":")", at)) {
    at += 8;
    body += text.substr(at, text.find('"', at) - at);
  }
  EXPECT_EQ(body.size(), 30000u);
}

// What waits for a client that reads nothing has a bound, of which the request ends.
TEST_F(ServerTest, ClientsThatNeverReadAreAborted) {
  options_.max_unsent_bytes = 100000;
  StartLoaded(std::chrono::microseconds(20));
  RawClient slow(server_->port(), 4096);
  slow.Send(Post("/v1/completions",
                 R"({"prompt":"abcdefghij","max_tokens":1000000,"logprobs":5,"stream":true})"));
  ASSERT_TRUE(WaitForRunning(1));
  EXPECT_TRUE(WaitForRunning(0));
  EXPECT_EQ(engine_->GetStats()[0].finished_abort, 1u);
  EXPECT_EQ(Get("/health").status, 200);
}

// If a stream kept a thread, a place or a turn until its next token, the probes would wait for a token
// that does not come.
TEST_F(ServerTest, HealthIsAnsweredWhileManyStreamsStandStill) {
  StartLoaded(std::chrono::milliseconds(100));
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 200; ++i) {
    clients.push_back(std::make_unique<RawClient>(server_->port()));
    clients.back()->Send(
        Post("/v1/completions", R"({"prompt":"abc","max_tokens":100000,"stream":true})"));
  }
  ASSERT_TRUE(WaitForRunning(200));
  engine_->Pause(true);
  for (int i = 0; i < 20; ++i) {
    for (const char* path : {"/health", "/metrics", "/v1/models"}) EXPECT_EQ(Get(path).status, 200);
  }
  EXPECT_EQ(engine_->GetStats()[0].num_requests_running, 200);  // nobody had to go for them
  clients.clear();
  EXPECT_TRUE(WaitForRunning(0));
}

TEST_F(ServerTest, FullQueueIs503WithRetryAfter) {
  StartLoaded();
  engine_->capacity = 0;
  const auto response = PostJson("/v1/completions", R"({"prompt":"a"})");
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(*response.header("Retry-After"), "1");
}

TEST_F(ServerTest, ShutdownLetsRequestsEndThenAborts) {
  StartLoaded(std::chrono::milliseconds(10));
  std::thread runner([&] { EXPECT_TRUE(server_->Run().ok()); });
  RawClient shorter(server_->port());
  RawClient longer(server_->port());
  shorter.Send(Post("/v1/completions", R"({"prompt":"abc","max_tokens":30})"));
  longer.Send(Post("/v1/completions", R"({"prompt":"abc","max_tokens":100000})"));
  ASSERT_TRUE(WaitForRunning(2));
  server_->Shutdown(1.0);
  runner.join();
  EXPECT_NE(shorter.ReadToEnd().find(R"("finish_reason":"length")"), std::string::npos);
  EXPECT_NE(longer.ReadToEnd().find(R"("finish_reason":"abort")"), std::string::npos);
}

TEST_F(ServerTest, RunEndsWhenTheEngineFails) {
  StartLoaded();
  engine_->Break();
  EXPECT_EQ(Get("/health").status, 503);
  EXPECT_EQ(server_->Run().code(), StatusCode::kInternal);
}

TEST_F(ServerTest, MetricsCountRequests) {
  StartLoaded();
  PostJson("/v1/completions", R"({"prompt":"a"})");
  const std::string text = Get("/metrics").body;
  for (const char* line :
       {"http_requests_total{handler=\"/v1/completions\",method=\"POST\",status=\"2xx\"} 1.0",
        "# TYPE vllm:time_to_first_token_seconds histogram",
        "vllm:request_success_total{model_name=\"test\",engine=\"0\",finished_reason=\"abort\"} 0.0",
        "vllm:gpu_cache_usage_perc{", "process_resident_memory_bytes "}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

}  // namespace
}  // namespace tiercel::server
