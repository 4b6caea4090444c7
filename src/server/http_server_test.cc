// The transport alone, against clients that cut, pipeline, wait, repeat and vanish at random.
#include "server/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <deque>
#include <future>
#include <mutex>
#include <random>
#include <thread>

namespace tiercel::server {
namespace {

using Random = std::mt19937;

int Pick(Random& random, int most) { return static_cast<int>(random() % static_cast<unsigned>(most + 1)); }

// Answers with what it was asked: "POST /now?7" and the body.
std::string Echo(const HttpRequest& request) {
  return request.method + " " + request.target + "\n" + std::string(request.body.text());
}

// Streams the echo in pieces, each when the client has taken the one before.
void StreamEcho(const std::shared_ptr<Exchange>& exchange, std::function<void()> on_closed) {
  auto rest = std::make_shared<std::string>(Echo(exchange->request()));
  auto done = std::make_shared<bool>(false);
  auto write = [rest, done, weak = std::weak_ptr<Exchange>(exchange)] {
    const auto exchange = weak.lock();
    if (!exchange || *done) return;
    if (rest->empty()) {
      *done = true;
      exchange->EndStream();
      return;
    }
    const std::string piece = rest->substr(0, 1 + rest->size() / 3);
    rest->erase(0, piece.size());
    exchange->Write(piece);
  };
  exchange->SetCallbacks(write, std::move(on_closed));
  exchange->BeginStream({200, "text/plain", "", {}});
}

// Answers that the handler gives itself have no other status; kClientClosedRequest: the client went.
bool WasHandled(int status) { return status == 200 || status == kClientClosedRequest; }

// The handler does what the request's path says. /refused is answered from the head.
class EchoServer {
 public:
  explicit EchoServer(ServerOptions options = {}) {
    options.host = "127.0.0.1";
    options.port = 0;
    options.io_threads = 2;
    HttpServer::Hooks hooks;
    hooks.refuse = [](const HttpRequest& request) -> std::optional<HttpReply> {
      if (request.path != "/refused") return std::nullopt;
      return HttpReply{401, "text/plain", "no", {}};
    };
    hooks.handle = [this](std::shared_ptr<Exchange> exchange) { Handle(std::move(exchange)); };
    hooks.finished = [this](const HttpRequest&, const ExchangeSummary& summary) {
      if (WasHandled(summary.status)) ++num_finished_;
      const std::lock_guard lock(mutex_);
      statuses_.push_back(summary.status);
    };
    hooks.error_body = [](int, std::string_view message) { return std::string(message); };
    auto server = HttpServer::Start(options, std::move(hooks));
    EXPECT_TRUE(server.has_value()) << server.error().message();
    server_ = std::move(*server);
    EXPECT_TRUE(server_->Listen().ok());
    worker_ = std::thread([this] { Work(); });
  }

  ~EchoServer() {
    server_->Stop();
    stopping_ = true;
    worker_.join();
  }

  HttpServer* operator->() { return server_.get(); }

  // Waits until no request is being answered; then every one that was handled has ended once.
  void ExpectAllEnded() {
    for (int i = 0; i < 5000 && server_->active_exchanges() > 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    EXPECT_EQ(server_->active_exchanges(), 0);
    EXPECT_EQ(num_finished_, num_handled_);
    EXPECT_LE(num_closed_, num_handled_);
  }

  int num_handled() const { return num_handled_; }
  int num_closed() const { return num_closed_; }
  // Of the finished exchanges, in order.
  std::vector<int> statuses() {
    const std::lock_guard lock(mutex_);
    return statuses_;
  }

 private:
  void Handle(std::shared_ptr<Exchange> exchange) {
    ++num_handled_;
    const auto on_closed = [this, once = std::make_shared<std::atomic<bool>>(false)] {
      EXPECT_FALSE(once->exchange(true));
      ++num_closed_;
    };
    const std::string& path = exchange->request().path;
    if (path == "/stream") {
      StreamEcho(exchange, on_closed);
      return;
    }
    exchange->SetCallbacks(nullptr, on_closed);
    if (path == "/events") {
      exchange->BeginStream({200, "text/event-stream", "", {}});
      exchange->Write("data: [DONE]\n\n");
      exchange->EndStream();
    } else if (path == "/now") {
      exchange->Respond({200, "text/plain", Echo(exchange->request()), {}});
    } else if (path == "/later") {
      const std::lock_guard lock(mutex_);
      later_.push_back(std::move(exchange));
    }  // else: never
  }

  // Answers from another thread.
  void Work() {
    Random random(1);
    while (!stopping_) {
      std::shared_ptr<Exchange> exchange;
      {
        const std::lock_guard lock(mutex_);
        if (!later_.empty()) {
          exchange = std::move(later_.front());
          later_.pop_front();
        }
      }
      std::this_thread::sleep_for(std::chrono::microseconds(Pick(random, 200)));
      if (exchange == nullptr) continue;
      Exchange* const raw = exchange.get();
      raw->Post([exchange = std::move(exchange)] {
        exchange->Respond({200, "text/plain", Echo(exchange->request()), {}});
      });
    }
  }

  std::unique_ptr<HttpServer> server_;
  std::atomic<int> num_handled_{0}, num_finished_{0}, num_closed_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::deque<std::shared_ptr<Exchange>> later_;
  std::vector<int> statuses_;
  std::thread worker_;
};

class Client {
 public:
  explicit Client(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;

  bool connected() const { return connected_; }

  // What the peer has not taken when it closes is lost.
  void Send(std::string_view data) {
    while (!data.empty()) {
      const ssize_t sent = ::send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      data.remove_prefix(static_cast<size_t>(sent));
    }
  }

  // Sends in pieces of random sizes, now and then with a pause.
  void SendInPieces(std::string_view data, Random& random) {
    const int most = Pick(random, 3) == 0 ? 3 : 4000;
    while (!data.empty()) {
      const size_t size = std::min(data.size(), 1 + static_cast<size_t>(Pick(random, most)));
      Send(data.substr(0, size));
      data.remove_prefix(size);
      if (Pick(random, 20) == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
  }

  // At least one more byte into received; false at the end of the stream or after 20 s.
  bool Receive() {
    pollfd poll_fd{fd_, POLLIN, 0};
    if (::poll(&poll_fd, 1, 20000) <= 0) return false;
    char piece[5000];
    const ssize_t size = ::recv(fd_, piece, sizeof(piece), 0);
    if (size <= 0) return false;
    received_.append(piece, static_cast<size_t>(size));
    return true;
  }

  // The next `size` bytes, or the text up to and with `end`.
  std::optional<std::string> Take(size_t size) {
    while (received_.size() < size) {
      if (!Receive()) return std::nullopt;
    }
    std::string taken = received_.substr(0, size);
    received_.erase(0, size);
    return taken;
  }
  std::optional<std::string> TakeUntil(std::string_view end) {
    size_t at;
    while ((at = received_.find(end)) == std::string::npos) {
      if (!Receive()) return std::nullopt;
    }
    return Take(at + end.size());
  }
  std::string TakeAll() {
    while (Receive()) {
    }
    return std::exchange(received_, {});
  }

  // Ends what still sends or receives.
  void Shutdown() { ::shutdown(fd_, SHUT_RDWR); }

  // Closes at once and throws away what is on the way.
  void Reset() {
    const linger at_once{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  }

  struct Answer {
    int status = 0;
    std::string head, body;
  };
  // The next answer but "100 Continue".
  std::optional<Answer> TakeAnswer(bool to_head = false) {
    Answer answer;
    do {
      const auto head = TakeUntil("\r\n\r\n");
      if (!head) return std::nullopt;
      answer.head = *head;
      answer.status = std::stoi(head->substr(9, 3));
    } while (answer.status == 100);
    if (to_head) return answer;
    const size_t at = answer.head.find("Content-Length: ");
    if (at != std::string::npos) {
      const auto body = Take(static_cast<size_t>(std::stol(answer.head.substr(at + 16))));
      if (!body) return std::nullopt;
      answer.body = *body;
    } else if (answer.head.find("chunked") != std::string::npos) {
      while (true) {
        const auto size_line = TakeUntil("\r\n");
        if (!size_line) return std::nullopt;
        const size_t size = std::stoul(*size_line, nullptr, 16);
        const auto piece = Take(size + 2);
        if (!piece) return std::nullopt;
        if (size == 0) break;
        answer.body += piece->substr(0, size);
      }
    } else {
      answer.body = TakeAll();
    }
    return answer;
  }

 private:
  int fd_;
  bool connected_ = false;
  std::string received_;
};

struct Sent {
  std::string bytes, expected_body;
  bool is_head = false;
  bool last = false;  // the connection ends with its answer
};

Sent RandomRequest(Random& random, int number, bool may_be_last) {
  Sent sent;
  const char* const path = std::array{"/now", "/later", "/stream"}[static_cast<size_t>(Pick(random, 2))];
  const std::string target = fmt::format("{}?{}", path, number);
  sent.is_head = Pick(random, 9) == 0;
  const bool is_get = sent.is_head || Pick(random, 3) == 0;
  const std::string method = sent.is_head ? "HEAD" : is_get ? "GET" : "POST";
  const bool http_1_0 = may_be_last && Pick(random, 5) == 0;
  sent.last = may_be_last && (http_1_0 || Pick(random, 3) == 0);
  std::string body;
  if (!is_get) {
    body.resize(static_cast<size_t>(Pick(random, Pick(random, 5) == 0 ? 200000 : 300)));
    for (char& c : body) c = static_cast<char>(random());
  }
  std::string head = fmt::format("{} {} HTTP/1.{}\r\nHost: x\r\n", method, target, http_1_0 ? 0 : 1);
  if (sent.last && !http_1_0) head += "Connection: close\r\n";
  if (!is_get && !http_1_0 && Pick(random, 4) == 0) head += "Expect: 100-continue\r\n";
  std::string wire = body;
  if (!is_get && !http_1_0 && Pick(random, 2) == 0) {
    head += "Transfer-Encoding: chunked\r\n";
    wire.clear();
    for (size_t at = 0; at < body.size();) {
      const size_t size = std::min(body.size() - at, 1 + static_cast<size_t>(Pick(random, 9000)));
      wire += fmt::format("{:x}\r\n{}\r\n", size, std::string_view(body).substr(at, size));
      at += size;
    }
    wire += "0\r\n\r\n";
  } else if (!is_get) {
    head += fmt::format("Content-Length: {}\r\n", body.size());
  }
  sent.bytes = (Pick(random, 5) == 0 ? "\r\n" : "") + head + "\r\n" + wire;
  sent.expected_body = sent.is_head ? "" : fmt::format("{} {}\n{}", method, target, body);
  return sent;
}

// One connection's life: some requests, sent while the answers are read, perhaps not to the end.
void Live(int port, Random& random) {
  Client client(port);
  ASSERT_TRUE(client.connected());
  std::vector<Sent> requests;
  std::string bytes;
  do {
    requests.push_back(RandomRequest(random, static_cast<int>(requests.size()), true));
    bytes += requests.back().bytes;
  } while (!requests.back().last && requests.size() < 8);
  const bool vanishes = Pick(random, 3) == 0;
  if (vanishes) bytes.resize(static_cast<size_t>(Pick(random, static_cast<int>(bytes.size()))));
  const unsigned seed = static_cast<unsigned>(random());
  const bool at_once = Pick(random, 1) == 0;
  std::future<void> sender = std::async(std::launch::async, [&] {
    Random own(seed);
    at_once ? client.Send(bytes) : client.SendInPieces(bytes, own);
  });
  // A failure must not leave the sender waiting for a server that reads no more.
  const std::shared_ptr<void> at_end(nullptr, [&client](void*) { client.Shutdown(); });
  if (vanishes) {
    if (Pick(random, 1) == 0) (void)client.TakeAnswer();
    sender.get();
    if (Pick(random, 1) == 0) client.Reset();
    return;
  }
  for (const Sent& request : requests) {
    const auto answer = client.TakeAnswer(request.is_head);
    ASSERT_TRUE(answer.has_value()) << request.bytes.substr(0, 200);
    EXPECT_EQ(answer->status, 200);
    EXPECT_TRUE(answer->body == request.expected_body) << request.bytes.substr(0, 200);
  }
  sender.get();
  if (requests.back().last) {
    EXPECT_EQ(client.TakeAll(), "");
  }
}

TEST(HttpServerTest, RandomClientsGetTheirOwnAnswersInOrder) {
  EchoServer server;
  const int port = server->port();
  std::vector<std::thread> clients;
  for (unsigned t = 0; t < 8; ++t) {
    clients.emplace_back([port, t] {
      Random random(t);
      for (int i = 0; i < 25 && !testing::Test::HasFatalFailure(); ++i) Live(port, random);
    });
  }
  for (std::thread& client : clients) client.join();
  server.ExpectAllEnded();
  EXPECT_GT(server.num_closed(), 0);
}

// A client is missed although it had already sent something of its next request.
TEST(HttpServerTest, AClientThatGoesIsNoticedWhateverItHasSent) {
  EchoServer server;
  int expected = 0;
  for (const char* more : {"", "\r\n", "GET /now HTTP/1.1\r\n\r\nGET"}) {
    Client client(server->port());
    client.Send(std::string("GET /never HTTP/1.1\r\n\r\n") + more);
    for (++expected; server.num_handled() < expected;) std::this_thread::yield();
  }
  server.ExpectAllEnded();
  EXPECT_EQ(server.num_closed(), expected);
}

TEST(HttpServerTest, DrainingAnswersWhatHasBegunAndNothingElse) {
  EchoServer server;
  Client idle(server->port());
  idle.Send("GET /now HTTP/1.1\r\n\r\n");
  EXPECT_EQ(idle.TakeAnswer()->body, "GET /now\n");
  Client half(server->port());
  // In one piece: with the first request's answer the second one has begun.
  half.Send("GET /now HTTP/1.1\r\n\r\nPOST /now HTTP/1.1\r\nContent-Le");
  EXPECT_EQ(half.TakeAnswer()->body, "GET /now\n");
  Client waiting(server->port());
  waiting.Send("GET /never HTTP/1.1\r\n\r\n");
  while (server.num_handled() < 3) std::this_thread::yield();
  server->StopAccepting();
  EXPECT_EQ(idle.TakeAll(), "");
  half.Send("ngth: 3\r\n\r\nabc");
  const auto answer = half.TakeAnswer();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->body, "POST /now\nabc");
  EXPECT_NE(answer->head.find("Connection: close"), std::string::npos);
  EXPECT_EQ(half.TakeAll(), "");
  EXPECT_EQ(server->active_exchanges(), 1);
  server->Stop();
  EXPECT_EQ(waiting.TakeAll(), "");
  server.ExpectAllEnded();
}

TEST(HttpServerTest, BadRequestsAreAnsweredAndEndTheConnection) {
  ServerOptions options;
  options.max_request_body_bytes = 1000;
  options.max_header_bytes = 2000;
  options.max_header_count = 5;
  EchoServer server(options);
  const std::string many = [] {
    std::string lines;
    for (int i = 0; i < 6; ++i) lines += fmt::format("X-{}: 1\r\n", i);
    return lines;
  }();
  const std::pair<std::string, int> cases[] = {
      {"nonsense\r\n\r\n", 400},
      {"GET /now HTTP/9.9\r\n\r\n", 400},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
      {"GET /now HTTP/1.1\r\n" + many + "\r\n", 431},
      {"GET /now HTTP/1.1\r\nX: " + std::string(3000, 'x') + "\r\n\r\n", 431},
      {"POST /now HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413},
      {"POST /now HTTP/1.1\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n", 413},
      {"POST /now HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
      {"POST /now HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
      {"POST /now HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
      {"POST /now HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + std::string(1001, 'x'), 413},
      {"POST /now HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400},
      {"POST /now HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400},
  };
  Random random(3);
  for (const auto& [bytes, status] : cases) {
    for (const bool in_pieces : {false, true}) {
      Client client(server->port());
      in_pieces ? client.SendInPieces(bytes, random) : client.Send(bytes);
      const auto answer = client.TakeAnswer();
      ASSERT_TRUE(answer.has_value()) << bytes.substr(0, 100);
      EXPECT_EQ(answer->status, status) << bytes.substr(0, 100);
      EXPECT_EQ(client.TakeAll(), "");
    }
  }
  server.ExpectAllEnded();
}

// What a proxy in front may read as one request and the server as two, or the other way round.
// Expected statuses: RFC 9112, sections 2.2, 5.1, 5.2, 6.1 to 6.3, 7.1.
TEST(HttpServerTest, AmbiguousFramingIsRefusedAndEndsTheConnection) {
  EchoServer server;
  const std::string head = "POST /now HTTP/1.1\r\nHost: x\r\n";
  const std::string chunked = head + "Transfer-Encoding: chunked\r\n\r\n";
  const std::string chunks = "3\r\nabc\r\n0\r\n\r\n";
  std::vector<std::string> cases;
  for (const char* encoding :
       {"gzip", "chunked, gzip", "gzip, chunked", "xchunked", "chunkedx", "chunked,", ", chunked",
        "chunked, chunked", "chunked;q=1", "\"chunked\"", "identity", "", "chunked identity",
        "chunked\r\n , identity", "\r\n chunked", "\r\n\tchunked", "chunked\x0b", "\x0c" "chunked",
        "chunked\r\nTransfer-Encoding: chunked", "chunked\r\nTransfer-Encoding: identity",
        "identity\r\nTransfer-Encoding: chunked", "chunked\r\ntransfer-encoding: gzip",
        "chunked\r\nContent-Length: 3", "chunked\r\nContent-Length: 0"}) {
    cases.push_back(head + "Transfer-Encoding: " + encoding + "\r\n\r\n" + chunks);
  }
  cases.push_back(head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks);
  cases.push_back(head + "Transfer-Encoding : chunked\r\n\r\n" + chunks);
  cases.push_back(head + "Transfer-Encoding\t: chunked\r\n\r\n" + chunks);
  cases.push_back(head + " Transfer-Encoding: chunked\r\n\r\n" + chunks);
  cases.push_back(head + "Transfer\xc4\xb1-Encoding: chunked\r\n\r\n" + chunks);
  cases.push_back("POST /now HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks);
  for (const char* length :
       {"3\r\nContent-Length: 3", "3\r\nContent-Length: 4", "3, 3", "3,4", "+3", "-3", "3 3", "0x3",
        "3abc", "", "3.0", "1e1", "\"3\"", "99999999999999999999", "18446744073709551619",
        "9223372036854775811", "3\r\n 4", "\xb3"}) {
    cases.push_back(head + "Content-Length: " + length + "\r\n\r\nabc");
  }
  for (const char* body :
       {" 3\r\nabc\r\n0\r\n\r\n", "3 \r\nabc\r\n0\r\n\r\n", "3\t\r\nabc\r\n0\r\n\r\n", "\r\n3\r\nabc\r\n",
        "-3\r\nabc\r\n", "+3\r\nabc\r\n", "0x3\r\nabc\r\n", "3\nabc\r\n", "3\rabc\r\n", "\n", ";\r\n", "g\r\n",
        "3\r\nabc0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n", "3\r\nabc\r0\r\n\r\n",
        "10000000000000003\r\nabc\r\n", "ffffffffffffffff\r\nabc", "8000000000000000\r\nabc",
        "00000000000000003\r\nabc\r\n0\r\n\r\n", "3;a\nb\r\nabc\r\n0\r\n\r\n", "3;\x01\r\nabc", "0\r\n\n",
        "0\r\nA: b\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "0\r\n\rX", "0\r\nA\x7f: b\r\n\r\n"}) {
    cases.push_back(chunked + body);
  }
  cases.push_back("POST /now HTTP/1.1\nContent-Length: 3\n\nabc");
  cases.push_back("POST /now HTTP/1.1\r\nA: b\nContent-Length: 3\r\n\r\nabc");
  cases.push_back("POST /now HTTP/1.1\r\nA: b\rContent-Length: 3\r\n\r\nabc");
  cases.push_back("POST /now HTTP/1.1\r\n\nContent-Length: 3\r\n\r\nabc");
  cases.push_back(head + std::string("A: b\0c\r\n\r\n", 10));
  cases.push_back("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");  // TLS, to a plain port
  Random random(4);
  for (const std::string& bytes : cases) {
    for (const bool in_pieces : {false, true}) {
      Client client(server->port());
      // What follows must not be taken for a request.
      const std::string sent = bytes + "GET /now?smuggled HTTP/1.1\r\n\r\n";
      in_pieces ? client.SendInPieces(sent, random) : client.Send(sent);
      const auto answer = client.TakeAnswer();
      ASSERT_TRUE(answer.has_value()) << bytes;
      EXPECT_EQ(answer->status, 400) << bytes;
      EXPECT_NE(answer->head.find("Connection: close"), std::string::npos);
      EXPECT_EQ(client.TakeAll(), "") << bytes;
    }
  }
  EXPECT_EQ(server.num_handled(), 0);
}

TEST(HttpServerTest, UnusualFramingThatIsClearIsTaken) {
  EchoServer server;
  const std::string head = "POST /now HTTP/1.1\r\n";
  const std::string chunked = head + "Transfer-Encoding: chunked\r\n\r\n";
  for (const std::string& bytes :
       {head + "Transfer-Encoding:chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        head + "tRANSFER-eNCODING: \t CHUNKED \t \r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        head + "Content-Length:  3\t\r\n\r\nabc", head + "content-length: 0003\r\n\r\nabc",
        chunked + "00003\r\nabc\r\n000\r\n\r\n", chunked + "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        chunked + "3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\nA: b\r\nContent-Length: 9\r\n\r\n",
        "\r\n\r\n\n" + head + "Content-Length: 3\r\n\r\nabc"}) {
    Client client(server->port());
    client.Send(bytes + "GET /now?next HTTP/1.1\r\n\r\n");
    const auto answer = client.TakeAnswer();
    ASSERT_TRUE(answer.has_value()) << bytes;
    EXPECT_EQ(answer->body, "POST /now\nabc") << bytes;
    EXPECT_EQ(client.TakeAnswer()->body, "GET /now?next\n");
  }
}

// Whatever of a request has no end, the server stops reading it.
TEST(HttpServerTest, EndlessFramesAreCut) {
  ServerOptions options;
  options.max_header_bytes = 64 << 10;
  EchoServer server(options);
  const std::string chunked = "POST /now HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::pair<std::string, std::string> cases[] = {
      {"", "\r\n"},
      {"GET /now?", "x"},
      {"GET /now HTTP/1.1\r\nA: ", "x"},
      {"GET /now HTTP/1.1\r\n", "A: b\r\n"},
      {chunked + "3;", "x"},
      {chunked, "1;ext\r\na\r\n"},
      {chunked + "0\r\n", "A: b\r\n"},
      {chunked + "0\r\nA:", "x"},
  };
  for (const auto& [begin, more] : cases) {
    Client client(server->port());
    client.Send(begin);
    std::string piece;
    while (piece.size() < 4096) piece += more;
    std::optional<Client::Answer> answer;
    std::future<void> sender = std::async(std::launch::async, [&] {
      for (int i = 0; i < 600; ++i) client.Send(piece);  // more than 2 MB
    });
    answer = client.TakeAnswer();
    client.Shutdown();
    sender.get();
    ASSERT_TRUE(answer.has_value()) << begin << more;
    EXPECT_EQ(answer->status, 431) << begin << more;
  }
  EXPECT_EQ(server.num_handled(), 0);
}

TEST(HttpServerTest, RefusedOnTheHeadBeforeTheBody) {
  EchoServer server;
  for (const char* headers :
       {"Content-Length: 10000000\r\n", "Transfer-Encoding: chunked\r\n",
        "Content-Length: 10000000\r\nExpect: 100-continue\r\n",
        "Content-Length: 3\r\nExpect: 100-continue\r\n",
        "Content-Length: 999999999999\r\n"}) {
    Client client(server->port());
    client.Send(fmt::format("POST /refused HTTP/1.1\r\n{}\r\n", headers));
    EXPECT_EQ(client.TakeUntil("\r\n"), "HTTP/1.1 401 Unauthorized\r\n") << headers;
    EXPECT_NE(client.TakeAll().find("Connection: close"), std::string::npos) << headers;
  }
  // A short body is read and forgotten, and the connection goes on.
  Client client(server->port());
  client.Send("POST /refused HTTP/1.1\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(client.TakeAnswer()->status, 401);
  client.Send("abcPOST /refused HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcdGET /now HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.TakeAnswer()->status, 401);
  EXPECT_EQ(client.TakeAnswer()->body, "GET /now\n");
  client.Send("GET /refused HTTP/1.1\r\n\r\nGET /now HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.TakeAnswer()->status, 401);
  EXPECT_EQ(client.TakeAnswer()->body, "GET /now\n");
  server.ExpectAllEnded();
}

TEST(HttpServerTest, BodiesInFlightHaveABudget) {
  ServerOptions options;
  options.max_request_body_bytes = 1 << 20;
  options.max_request_bytes_in_flight = 3 << 20;
  EchoServer server(options);
  const std::string most(1 << 20, 'x');
  const std::string head = fmt::format("POST /now HTTP/1.1\r\nContent-Length: {}\r\n\r\n", most.size());
  std::vector<std::unique_ptr<Client>> holders;
  for (int i = 0; i < 3; ++i) {
    holders.push_back(std::make_unique<Client>(server->port()));
    holders.back()->Send(fmt::format("POST /never HTTP/1.1\r\nContent-Length: {}\r\n\r\n{}",
                                     most.size(), most));
    while (server.num_handled() < i + 1) std::this_thread::yield();
  }
  Client client(server->port());
  client.Send(head + most);
  const auto refused = client.TakeAnswer();
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->status, 503);
  EXPECT_NE(refused->head.find("Retry-After: "), std::string::npos);
  // What is small is answered whatever the others hold.
  Client small(server->port());
  small.Send("POST /now HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'y'));
  EXPECT_EQ(small.TakeAnswer()->status, 200);
  holders.clear();
  server.ExpectAllEnded();
  for (int i = 0; i < 10; ++i) {
    Client client(server->port());
    client.Send(head + most);
    EXPECT_EQ(client.TakeAnswer()->status, 200);
  }
}

// Each phase has its time, however the client fills it.
TEST(HttpServerTest, TricklingClientsAreCutOff) {
  ServerOptions options;
  options.keep_alive_timeout_s = options.header_timeout_s = options.body_timeout_s = 1;
  EchoServer server(options);
  const std::pair<std::string, std::string> cases[] = {
      {"", ""},
      {"", "\r\n"},
      {"GET /now HTTP/1.1\r\nA: ", "b"},
      {"GET /now HTTP/1.1\r\n", "A: b\r\n"},
      {"POST /now HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", "b"},
      {"POST /now HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"},
      {"POST /now HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;", "b"},
      {"POST /now HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n"},
      {"GET /now HTTP/1.1\r\n\r\n", ""},
  };
  std::vector<std::future<void>> clients;
  for (const auto& [begin, more] : cases) {
    clients.push_back(std::async(std::launch::async, [&server, begin = begin, more = more] {
      Client client(server->port());
      client.Send(begin);
      std::atomic<bool> ended{false};
      std::thread sender([&] {
        while (!ended) {
          client.Send(more);
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
      });
      const auto start = std::chrono::steady_clock::now();
      client.TakeAll();
      EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15)) << begin;
      ended = true;
      sender.join();
    }));
  }
  for (auto& client : clients) client.get();
  server.ExpectAllEnded();
}

// With all places taken, those that wait for nothing go first, the oldest before the others.
TEST(HttpServerTest, IdleConnectionsMakeRoom) {
  ServerOptions options;
  options.max_connections = 8;
  EchoServer server(options);
  Client busy(server->port());
  busy.Send("GET /never HTTP/1.1\r\n\r\n");
  while (server.num_handled() < 1) std::this_thread::yield();
  std::vector<std::unique_ptr<Client>> idle;
  bool stays = false;
  for (int i = 0; i < 60 || (i < 1000 && !stays); ++i) {
    idle.push_back(std::make_unique<Client>(server->port()));
    idle.back()->Send("GET /now HTTP/1.1\r\n\r\n");
    const auto answer = idle.back()->TakeAnswer();
    ASSERT_TRUE(answer.has_value()) << i;
    EXPECT_EQ(answer->status, 200);
    // One that comes before the oldest has quite gone is answered, and asked to come again.
    stays = answer->head.find("onnection: close") == std::string::npos;
    if (!stays) idle.pop_back();
  }
  EXPECT_EQ(idle[0]->TakeAll(), "");  // closed
  ASSERT_TRUE(stays);
  idle.back()->Send("GET /now HTTP/1.1\r\n\r\n");
  const auto answer = idle.back()->TakeAnswer();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(server.num_closed(), 0);
}

// With every place taken by a request, a probe is answered, and others are told.
TEST(HttpServerTest, ProbesAreAnsweredWhenAllPlacesAreTaken) {
  ServerOptions options;
  options.max_connections = 8;
  EchoServer server(options);
  std::vector<std::unique_ptr<Client>> busy;
  for (int i = 0; i < 9; ++i) {
    busy.push_back(std::make_unique<Client>(server->port()));
    busy.back()->Send("GET /never HTTP/1.1\r\n\r\n");
    while (server.num_handled() < i + 1) std::this_thread::yield();
  }
  Client probe(server->port());
  probe.Send("GET /now HTTP/1.1\r\n\r\n");
  EXPECT_EQ(probe.TakeAnswer()->status, 200);
  Client other(server->port());
  other.Send("POST /now HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
  const auto answer = other.TakeAnswer();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->status, 503);
  EXPECT_NE(answer->head.find("Retry-After: "), std::string::npos);
}

// A client may go as soon as it has read what it wanted; one that goes before has not been served.
TEST(HttpServerTest, AClientThatGoesWithTheWholeAnswerWasServed) {
  EchoServer server;
  for (int i = 0; i < 200; ++i) {
    Client client(server->port());
    client.Send("GET /events HTTP/1.1\r\n\r\n");
    // The end of the chunks may not have come.
    EXPECT_TRUE(client.TakeUntil("[DONE]").has_value());
    if (i % 2 == 0) client.Reset();
  }
  server.ExpectAllEnded();
  Client gone(server->port());
  gone.Send("GET /never HTTP/1.1\r\n\r\n");
  while (server.num_handled() < 201) std::this_thread::yield();
  gone.Shutdown();
  server.ExpectAllEnded();
  std::vector<int> expected(200, 200);
  expected.push_back(kClientClosedRequest);
  EXPECT_EQ(server.statuses(), expected);
  EXPECT_EQ(ReasonPhrase(kClientClosedRequest), "Client Closed Request");
}

TEST(HttpServerTest, AnAddressIsTakenAtOnceAndListensLater) {
  ServerOptions options;
  options.host = "127.0.0.1";
  options.port = 0;
  auto first = HttpServer::Start(options, {});
  ASSERT_TRUE(first.has_value());
  options.port = (*first)->port();
  EXPECT_FALSE(Client(options.port).connected());
  const auto second = HttpServer::Start(options, {});
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(second.error().message().find(std::to_string(options.port)), std::string::npos);
  EXPECT_TRUE((*first)->Listen().ok());
  EXPECT_TRUE(Client(options.port).connected());
  EXPECT_FALSE(HttpServer::Start(options, {}).has_value());

  options.uds = testing::TempDir() + fmt::format("http_server_test.{}", ::getpid());
  auto unix_first = HttpServer::Start(options, {});
  ASSERT_TRUE(unix_first.has_value()) << unix_first.error().message();
  EXPECT_FALSE(HttpServer::Start(options, {}).has_value());
  unix_first->reset();
  EXPECT_TRUE(HttpServer::Start(options, {}).has_value());
}

TEST(HttpServerTest, ContinueIsSaidBeforeTheBody) {
  EchoServer server;
  Client client(server->port());
  client.Send("POST /later HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n");
  EXPECT_EQ(client.TakeUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send("abc");
  EXPECT_EQ(client.TakeAnswer()->body, "POST /later\nabc");
}

TEST(HttpServerTest, ManyPipelinedRequestsWaitTheirTurn) {
  EchoServer server;
  Client client(server->port());
  constexpr int kRequests = 5000;
  std::future<void> sender = std::async(std::launch::async, [&] {
    for (int i = 0; i < kRequests; ++i) client.Send(fmt::format("GET /now?{} HTTP/1.1\r\n\r\n", i));
  });
  for (int i = 0; i < kRequests; ++i) {
    const auto answer = client.TakeAnswer();
    ASSERT_TRUE(answer.has_value());
    ASSERT_EQ(answer->body, fmt::format("GET /now?{}\n", i));
  }
  sender.get();
}

TEST(HttpTextTest, PathsAreTidied) {
  EXPECT_EQ(PathOf("//v1///models/?a=/b/"), "/v1/models");
  EXPECT_EQ(PathOf("http://host:80/v1/models?x"), "/v1/models");
  EXPECT_EQ(PathOf("HTTPS://host"), "/");
  EXPECT_EQ(PathOf("*"), "/*");
  EXPECT_EQ(PathOf(""), "/");
}

}  // namespace
}  // namespace tiercel::server
