#include "tools/client_session.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>

#include "api/json_reader.h"
#include "base/environ.h"
#include "net/sse_reader.h"

namespace tiercel::tools {
namespace {

std::string_view StringAt(const api::Json* value) {
  return value != nullptr && value->string() != nullptr ? std::string_view(*value->string())
                                                        : std::string_view();
}

// The message of an OpenAI error body; else the body itself, cut short.
std::string ErrorText(const api::Json* body, const std::string& raw) {
  const api::Json* error = body != nullptr ? body->Find("error") : nullptr;
  if (error != nullptr) {
    const std::string_view text = StringAt(error->string() ? error : error->Find("message"));
    if (!text.empty()) return std::string(text);
  }
  return raw.substr(0, 300);
}

// A whole streamed answer, its events included: a million tokens of 250 bytes.
constexpr int64_t kMaxAnswerBytes = 256 << 20;

net::HttpClientOptions ClientOptions() {
  net::HttpClientOptions options = net::HttpClientOptions::FromEnviron(ReadEnviron());
  // Until the first token of a long prompt nothing comes; Ctrl-C ends the wait.
  options.stall_timeout_s = 600;
  return options;
}

std::atomic<bool> stop_answer{false};
static_assert(std::atomic<bool>::is_always_lock_free);

class InterruptEndsAnswer {
 public:
  InterruptEndsAnswer() {
    stop_answer = false;
    before_ = std::signal(SIGINT, [](int) { stop_answer = true; });
  }
  ~InterruptEndsAnswer() { std::signal(SIGINT, before_); }
  InterruptEndsAnswer(const InterruptEndsAnswer&) = delete;
  InterruptEndsAnswer& operator=(const InterruptEndsAnswer&) = delete;

 private:
  void (*before_)(int);
};

}  // namespace

const OptionSpec kClientOptions[3] = {
    {"--url", Kind::kString, "http://localhost:8000/v1", Effect::kUsed,
     "Where the server is, with /v1."},
    {"--model-name", Kind::kString, "", Effect::kUsed,
     "The model to ask for. Default: the first that the server names."},
    {"--api-key", Kind::kString, "", Effect::kUsed,
     "Key for the server. Default: OPENAI_API_KEY, if set."},
};

Expected<ClientSession> ClientSession::Connect(const ParsedOptions& options) {
  ClientSession session;
  session.url_ = options.String("url");
  while (session.url_.ends_with('/')) session.url_.pop_back();
  std::string key = options.String("api-key");
  if (const char* env = std::getenv("OPENAI_API_KEY"); key.empty() && env != nullptr) key = env;
  if (!key.empty()) session.headers_.emplace_back("Authorization", "Bearer " + key);
  session.model_ = options.String("model-name");
  if (!session.model_.empty()) return session;

  net::HttpClient client(ClientOptions());
  ASSIGN_OR_RETURN(const api::Json models,
                   session.CheckAnswer(client.Get(session.url_ + "/models", session.headers_)));
  const api::Json* data = models.Find("data");
  if (data == nullptr || data->array() == nullptr || data->array()->empty()) {
    return Unexpected(Unavailable("{}/models names no model", session.url_));
  }
  session.model_ = StringAt((*data->array())[0].Find("id"));
  return session;
}

Expected<api::Json> ClientSession::CheckAnswer(
    const Expected<net::HttpResponse>& response) const {
  if (!response) {
    return Unexpected(Unavailable("{}: {} (is the server running? see --url)", url_,
                                  response.error().message()));
  }
  auto body = api::ParseJson(response->body);
  if (response->status != 200) {
    return Unexpected(Unavailable("{}: HTTP {}: {}", url_, response->status,
                                  ErrorText(body ? &*body : nullptr, response->body)));
  }
  if (!body) return Unexpected(Unavailable("{}: the answer is no JSON", url_));
  return body;
}

Status ClientSession::Stream(std::string_view route, const api::Json& body,
                             const std::function<void(const api::Json&)>& on_event) {
  Status error;
  net::SseReader reader([&](std::string_view, std::string_view data) {
    if (data == "[DONE]") return true;
    auto event = api::ParseJson(data);
    if (!event || event->Find("error") != nullptr) {
      error = Unavailable("{}", ErrorText(event ? &*event : nullptr, std::string(data)));
      return false;
    }
    on_event(*event);
    return true;
  });
  net::HttpRequestSpec request;
  request.method = "POST";
  request.url = fmt::format("{}/{}", url_, route);
  request.headers = headers_;
  request.headers.emplace_back("Content-Type", "application/json");
  request.body = body.Dump();
  const InterruptEndsAnswer interrupt;
  request.stop = &stop_answer;
  net::HttpClient client(ClientOptions());
  int64_t received = 0;
  const auto response = client.Send(request, [&](std::string_view piece) {
    received += static_cast<int64_t>(piece.size());
    return received <= kMaxAnswerBytes && reader.Feed(piece);
  });
  if (reader.too_large() || received > kMaxAnswerBytes) {
    return Unavailable("{}: an answer without an end: stopped after {} bytes", request.url,
                       received);
  }
  if (!error.ok()) return error;
  if (stop_answer) return Status(StatusCode::kCancelled, "stopped");
  if (!response || response->status != 200) return CheckAnswer(response).error();
  return OkStatus();
}

std::string_view DeltaText(const api::Json& event) {
  const api::Json* choices = event.Find("choices");
  if (choices == nullptr || choices->array() == nullptr || choices->array()->empty()) return {};
  const api::Json& choice = (*choices->array())[0];
  const api::Json* delta = choice.Find("delta");
  return StringAt(delta != nullptr ? delta->Find("content") : choice.Find("text"));
}

bool WantsColor() {
  return ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
}

}  // namespace tiercel::tools
