#include "server/server.h"

#include <algorithm>
#include <condition_variable>
#include <chrono>
#include <mutex>
#include <thread>

#include "api/errors.h"
#include "api/json_writer.h"
#include "api/prepare.h"
#include "base/log.h"
#include "server/access.h"
#include "server/generation.h"
#include "server/http_server.h"
#include "server/metrics.h"
#include "server/news_board.h"
#include "server/work_pool.h"

namespace tiercel::server {

namespace {

// A route's handler answers on the I/O thread or hands the exchange on.
struct Call {
  std::shared_ptr<Exchange> exchange;
  HttpHeaders headers;     // of every answer: CORS, request id
  std::string request_id;  // the client's X-Request-Id, or empty
};

api::ApiError HttpError(int status) {
  return {status, std::string(status == 404 ? "NotFoundError" : ReasonPhrase(status)),
          std::string(ReasonPhrase(status)), std::nullopt};
}

class ServerImpl final : public Server {
 public:
  explicit ServerImpl(ServerOptions options)
      : options_(std::move(options)), pool_(std::max(1, options_.prepare_threads)) {
    if (options_.served_model_names.empty()) options_.served_model_names = {"default"};
    MakeRoutes();
  }

  ~ServerImpl() override {
    // Connections first: their requests hold the model, and the engine thread posts to them.
    if (http_ != nullptr) http_->Stop();
    std::shared_ptr<const LoadedModel> model = TakeModel();
    if (model != nullptr) model->engine->Drain(0);
  }

  Status Start() {
    HttpServer::Hooks hooks;
    hooks.handle = [this](std::shared_ptr<Exchange> exchange) { Handle(std::move(exchange)); };
    hooks.finished = [this](const HttpRequest& request, const ExchangeSummary& summary) {
      Finished(request, summary);
    };
    hooks.error_body = [](int status, std::string_view message) {
      return api::ErrorBody(
          {status, std::string(ReasonPhrase(status)), std::string(message), std::nullopt});
    };
    board_ = std::make_unique<NewsBoard>(
        std::max(1, options_.io_threads),
        [this](int thread, std::function<void()> task) { http_->Post(thread, std::move(task)); });
    // Requests may come before `http_` is assigned; none reads it before there is a model.
    ASSIGN_OR_RETURN(http_, HttpServer::Start(options_, std::move(hooks)));
    return OkStatus();
  }

  void SetModel(ServingModel model) override {
    auto loaded = std::make_shared<LoadedModel>();
    loaded->engine = std::move(model.engine);
    loaded->info.served_names = options_.served_model_names;
    loaded->info.root = std::move(model.root);
    loaded->info.max_model_len = loaded->engine->options().max_model_len;
    loaded->info.vocab_size = model.vocab_size;
    loaded->info.created = std::chrono::duration_cast<std::chrono::seconds>(
                               std::chrono::system_clock::now().time_since_epoch())
                               .count();
    loaded->info.tokenizer = std::move(model.tokenizer);
    loaded->info.chat_template = std::move(model.chat_template);
    loaded->api = options_.api;
    loaded->api.sampling_defaults = std::move(model.sampling_defaults);
    loaded->engine->SetStepHook([board = board_.get()] { board->Deliver(); });
    // No request reads the defaults before it has seen the model, under the same lock.
    options_.api.sampling_defaults = model.sampling_defaults;
    std::lock_guard lock(mutex_);
    model_ = std::move(loaded);
  }

  Status Run() override {
    std::unique_lock lock(mutex_);
    while (!shut_down_) {
      changed_.wait_for(lock, std::chrono::milliseconds(200));
      if (!shutting_down_ && model_ != nullptr && !model_->engine->healthy()) {
        shutting_down_ = true;
        lock.unlock();
        LOG_ERROR("the engine has failed; the server ends");
        // The requests in flight get their error events before the connections close.
        http_->StopAccepting();
        WaitForAnswers(2);
        http_->Stop();
        return Status(StatusCode::kInternal, "the engine has failed");
      }
    }
    return OkStatus();
  }

  void Shutdown(double grace_seconds) override {
    std::shared_ptr<const LoadedModel> model;
    {
      std::lock_guard lock(mutex_);
      if (shutting_down_) return;
      shutting_down_ = true;
      model = model_;
    }
    http_->StopAccepting();
    if (model != nullptr) model->engine->Drain(grace_seconds);
    WaitForAnswers(2);
    http_->Stop();
    model.reset();
    {
      std::lock_guard lock(mutex_);
      shut_down_ = true;
    }
    changed_.notify_all();
  }

  int port() const override { return http_->port(); }

  std::string url() const override {
    if (!options_.uds.empty()) return "unix:" + options_.uds;
    std::string host = options_.host.empty() ? "0.0.0.0" : options_.host;
    if (host.find(':') != std::string::npos) host = "[" + host + "]";
    return fmt::format("{}://{}:{}", options_.ssl_certfile.empty() ? "http" : "https", host,
                       http_->port());
  }

  std::vector<std::string> RouteLines() const override {
    std::vector<std::string> lines;
    for (const Route& route : routes_) {
      std::string methods;
      for (const auto& [method, handler] : route.methods) {
        methods += (methods.empty() ? "" : ", ") + method;
      }
      lines.push_back(fmt::format("Route: {}, Methods: {}", route.path, methods));
    }
    return lines;
  }

 private:
  using Handler = std::function<void(Call)>;
  struct Route {
    std::string path;
    std::vector<std::pair<std::string, Handler>> methods;
    bool counted = true;  // in the http_* metrics
  };

  std::shared_ptr<const LoadedModel> Model() const {
    std::lock_guard lock(mutex_);
    return model_;
  }

  std::shared_ptr<const LoadedModel> TakeModel() {
    std::lock_guard lock(mutex_);
    return std::move(model_);
  }

  // After the engine has ended every request, their last bytes are still on the way.
  void WaitForAnswers(double seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (http_->active_exchanges() > 0 && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  static void Reply(const Call& call, std::string body,
                    std::string content_type = "application/json") {
    call.exchange->Respond({200, std::move(content_type), std::move(body), call.headers});
  }

  static void ReplyError(const Call& call, const api::ApiError& error) {
    call.exchange->Respond(ErrorReply(error, call.headers));
  }

  // The loaded model, or an answered 503.
  std::shared_ptr<const LoadedModel> NeedModel(const Call& call) const {
    auto model = Model();
    if (model == nullptr) {
      ReplyError(call, {503, "ServiceUnavailableError", "The model is still being loaded.",
                        std::nullopt});
    }
    return model;
  }

  static bool HasJsonType(const HttpRequest& request) {
    std::string_view type = request.Header("Content-Type");
    type = type.substr(0, type.find(';'));
    while (!type.empty() && type.back() == ' ') type.remove_suffix(1);
    return EqualsNoCase(type, "application/json");
  }

  // True if the body claims to be JSON; else the error is answered.
  static bool CheckJsonType(const Call& call) {
    if (HasJsonType(call.exchange->request())) return true;
    ReplyError(call, {400, "Bad Request",
                      "Unsupported Media Type: Only 'application/json' is allowed", std::nullopt});
    return false;
  }

  void Generate(const Call& call, GenerationKind kind) {
    const auto model = NeedModel(call);
    if (model == nullptr || !CheckJsonType(call)) return;
    std::make_shared<Generation>(GenerationContext{options_, pool_, *board_, load_}, model,
                                 call.exchange, kind, call.request_id, call.headers)
        ->Start();
  }

  using BodyFunction = std::function<api::Result<std::string>(const std::string& body,
                                                              const LoadedModel& model)>;
  // Work on a body that needs no engine: on the pool, the answer from the I/O thread.
  void AnswerFromPool(const Call& call, BodyFunction work) {
    auto model = NeedModel(call);
    if (model == nullptr || !CheckJsonType(call)) return;
    pool_.Post([call, model = std::move(model), work = std::move(work)] {
      api::Result<std::string> body = work(call.exchange->request().body, *model);
      call.exchange->Post([call, body = std::move(body)] {
        if (body) {
          Reply(call, *body);
        } else {
          ReplyError(call, body.error());
        }
      });
    });
  }

  void Health(const Call& call) const {
    const auto model = Model();
    const bool ok = model != nullptr && model->engine->healthy();
    call.exchange->Respond({ok ? 200 : 503, "", "", call.headers});
  }

  void Metrics(const Call& call) const {
    MetricsText text;
    const auto model = Model();
    if (options_.log_stats) {
      EngineMetricsInfo info;
      info.base_labels = {{"model_name", options_.served_model_names[0]}, {"engine", "0"}};
      info.cache_config_labels = options_.cache_config_labels;
      if (model != nullptr) {
        info.cache_config_labels.emplace_back(
            "block_size", std::to_string(model->engine->options().block_size));
      }
      WriteEngineMetrics(model != nullptr ? model->engine->GetStats() : engine::Stats(), info,
                         &text);
    }
    http_metrics_.Write(&text);
    WriteProcessMetrics(&text);
    Reply(call, text.text(), "text/plain; version=0.0.4; charset=utf-8");
  }

  void MakeRoutes() {
    const Handler health = [this](const Call& call) { Health(call); };
    Add("/health", {{"GET", health}}, false);
    Add("/ping", {{"GET", health}, {"POST", health}}, false);
    Add("/load", {{"GET", [this](const Call& call) {
                     const int64_t load = options_.enable_server_load_tracking ? load_.load() : 0;
                     Reply(call, fmt::format(R"({{"server_load":{}}})", load));
                   }}},
        false);
    Add("/version", {{"GET", [this](const Call& call) {
                        std::string body = R"({"version":)";
                        api::AppendJsonString(&body, options_.version);
                        Reply(call, body + "}");
                      }}},
        false);
    Add("/metrics", {{"GET", [this](const Call& call) { Metrics(call); }}}, false);
    Add("/tokenize", {{"POST", [this](const Call& call) {
                         AnswerFromPool(call, [](const std::string& body, const auto& model) {
                           return api::TokenizeBody(body, model.info, model.api);
                         });
                       }}});
    Add("/detokenize", {{"POST", [this](const Call& call) {
                           AnswerFromPool(call, [](const std::string& body, const auto& model) {
                             return api::DetokenizeBody(body, model.info);
                           });
                         }}});
    Add("/v1/models", {{"GET", [this](const Call& call) {
                          if (const auto model = NeedModel(call)) {
                            Reply(call, api::ModelsBody(model->info));
                          }
                        }}});
    Add("/v1/chat/completions",
        {{"POST", [this](const Call& call) { Generate(call, GenerationKind::kChat); }}});
    Add("/v1/completions",
        {{"POST", [this](const Call& call) { Generate(call, GenerationKind::kCompletion); }}});
    if (!options_.dev_mode) return;
    Add("/server_info", {{"GET", [this](const Call& call) {
                            Reply(call, options_.server_info_json.empty()
                                            ? "{}"
                                            : options_.server_info_json);
                          }}},
        false);
    Add("/reset_prefix_cache", {{"POST", [this](const Call& call) {
                                   const auto model = NeedModel(call);
                                   if (model == nullptr) return;
                                   const bool done = model->engine->ResetPrefixCache();
                                   Reply(call, done ? R"({"success":true})" : R"({"success":false})");
                                 }}});
  }

  void Add(std::string path, std::vector<std::pair<std::string, Handler>> methods,
           bool counted = true) {
    routes_.push_back({std::move(path), std::move(methods), counted});
  }

  // The path without --root-path.
  std::string_view RoutePath(const HttpRequest& request) const {
    std::string_view path = request.path;
    const std::string_view root = options_.root_path;
    if (root.size() > 1 && path.substr(0, root.size()) == root &&
        (path.size() == root.size() || path[root.size()] == '/')) {
      path.remove_prefix(root.size());
    }
    return path.empty() ? "/" : path;
  }

  const Route* FindRoute(std::string_view path) const {
    const auto it = std::find_if(routes_.begin(), routes_.end(),
                                 [&](const Route& route) { return route.path == path; });
    return it == routes_.end() ? nullptr : &*it;
  }

  void Handle(std::shared_ptr<Exchange> exchange) {
    const HttpRequest& request = exchange->request();
    Call call{exchange, CorsHeaders(request, options_), RequestIdOf(request)};
    if (options_.enable_request_id_headers) {
      call.headers.emplace_back("X-Request-Id",
                                call.request_id.empty() ? api::RandomId() : call.request_id);
    }
    if (std::optional<HttpReply> preflight = PreflightReply(request, options_)) {
      exchange->Respond(std::move(*preflight));
      return;
    }
    const std::string_view path = RoutePath(request);
    if (!IsAuthorized(request, path, options_)) {
      exchange->Respond({401, "application/json", R"({"error":"Unauthorized"})", call.headers});
      return;
    }
    const Route* route = FindRoute(path);
    if (route == nullptr) {
      ReplyError(call, HttpError(404));
      return;
    }
    // The session itself leaves the body out of an answer to HEAD.
    const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
    for (const auto& [name, handler] : route->methods) {
      if (name == method) {
        handler(std::move(call));
        return;
      }
    }
    std::string allowed;
    for (const auto& [name, handler] : route->methods) allowed += (allowed.empty() ? "" : ", ") + name;
    call.headers.emplace_back("Allow", allowed);
    ReplyError(call, HttpError(405));
  }

  void Finished(const HttpRequest& request, const ExchangeSummary& summary) {
    const std::string_view path = request.path.empty() ? "none" : RoutePath(request);
    const Route* route = FindRoute(path);
    if (route == nullptr || route->counted) {
      http_metrics_.Observe(KnownMethod(request.method), route != nullptr ? route->path : "none",
                            summary.status, summary.seconds,
                            static_cast<int64_t>(request.body.size()), summary.response_bytes);
    }
    const auto& excluded = options_.access_log_excluded_paths;
    if (!options_.access_log ||
        std::find(excluded.begin(), excluded.end(), path) != excluded.end()) {
      return;
    }
    // The target is the client's text: what could forge a line or color a terminal is cut out.
    std::string target = request.target.substr(0, 512);
    std::replace_if(target.begin(), target.end(),
                    [](unsigned char c) { return c < 0x21 || c > 0x7e; }, '?');
    LOG_INFO("{} - \"{} {} HTTP/1.1\" {} {}", request.peer, KnownMethod(request.method), target,
             summary.status, ReasonPhrase(summary.status));
  }

  // Methods are labels of metrics: their number is bounded.
  static std::string_view KnownMethod(std::string_view method) {
    for (const std::string_view known : {"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"}) {
      if (method == known) return known;
    }
    return "OTHER";
  }

  ServerOptions options_;
  std::vector<Route> routes_;
  mutable HttpMetrics http_metrics_;
  std::atomic<int64_t> load_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const LoadedModel> model_;  // shared with the requests that run on it
  bool shutting_down_ = false;
  bool shut_down_ = false;
  std::unique_ptr<NewsBoard> board_;
  std::unique_ptr<HttpServer> http_;
  WorkPool pool_;  // last: its tasks use all of the above
};

}  // namespace

Expected<std::unique_ptr<Server>> Server::Bind(ServerOptions options) {
  auto server = std::make_unique<ServerImpl>(std::move(options));
  RETURN_IF_ERROR(server->Start());
  return server;
}

}  // namespace tiercel::server
