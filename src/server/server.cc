#include "server/server.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "api/errors.h"
#include "api/json_writer.h"
#include "api/prepare_pooling.h"
#include "api/response_store.h"
#include "api/text_bodies.h"
#include "base/ascii_case.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/generation.h"
#include "server/http_server.h"
#include "server/kept_responses.h"
#include "server/metrics.h"
#include "server/news_board.h"
#include "server/openapi.h"
#include "server/page.h"
#include "server/router.h"
#include "server/work_pool.h"

namespace tiercel::server {

namespace {

// What is left to send when the engine has ended every request, to clients that read.
constexpr double kLastBytes = 2;
// A year: what a clock counts in nanoseconds has an end.
constexpr double kLongestWait = 366.0 * 24 * 3600;


class ServerImpl final : public Server {
 public:
  explicit ServerImpl(ServerOptions options)
      : options_(std::move(options)), pool_(std::max(1, options_.prepare_threads)) {
    if (options_.served_model_names.empty()) options_.served_model_names = {"default"};
    if (options_.keep_responses) options_.api.response_store = &responses_;
    MakeRoutes();
  }

  ~ServerImpl() override {
    // Connections first: their requests hold the model, and the engine thread posts to them.
    if (http_ != nullptr) http_->Stop();
    responses_.Close();
    std::shared_ptr<const LoadedModel> model = TakeModel();
    if (model != nullptr) model->engine->Drain(0);
  }

  Status Start() {
    HttpServer::Hooks hooks;
    hooks.refuse = [this](const HttpRequest& request) { return router_.Refuse(request); };
    hooks.handle = [this](std::shared_ptr<Exchange> exchange) {
      router_.Handle(std::move(exchange));
    };
    hooks.finished = [this](const HttpRequest& request, const ExchangeSummary& summary) {
      router_.Finished(request, summary);
    };
    hooks.error_body = [](int status, std::string_view message) {
      return api::ErrorBody(
          {status, std::string(ReasonPhrase(status)), std::string(message), std::nullopt});
    };
    board_ = std::make_unique<NewsBoard>(
        std::max(1, options_.io_threads),
        [this](int thread, std::function<void()> task) { http_->Post(thread, std::move(task)); });
    ASSIGN_OR_RETURN(http_, HttpServer::Start(options_, std::move(hooks)));
    return options_.early_health ? http_->Listen() : OkStatus();
  }

  Status SetModel(ServingModel model) override {
    const std::shared_ptr<LoadedModel> loaded =
        MakeLoadedModel(std::move(model), options_.served_model_names, options_.api);
    if (options_.document) {
      loaded->document = std::make_shared<const ApiDocument>(router_.Operations(), options_, *loaded);
    }
    loaded->engine->SetStepHook([board = board_.get()] { board->Deliver(); });
    {
      std::lock_guard lock(mutex_);
      model_ = loaded;
    }
    return options_.early_health ? OkStatus() : http_->Listen();
  }

  Status Run() override {
    std::unique_lock lock(mutex_);
    while (!shut_down_) {
      changed_.wait_for(lock, std::chrono::milliseconds(200));
      if (!shutting_down_ && model_ != nullptr && !model_->engine->healthy()) {
        shutting_down_ = true;
        const std::shared_ptr<const LoadedModel> model = model_;
        lock.unlock();
        LOG_ERROR("the engine has failed; the server ends");
        // The requests in flight get their last events before the connections close: what runs in the other
        // engines of a group as well.
        http_->StopAccepting();
        model->engine->Drain(0);
        WaitForAnswers(kLastBytes);
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
    const SteadyClock clock;
    const double end = clock.Now() + grace_seconds;
    if (model != nullptr) model->engine->Drain(grace_seconds);
    // Who reads slowly has the rest of the grace.
    WaitForAnswers(std::max(kLastBytes, std::min(end - clock.Now(), kLongestWait)));
    http_->Stop();
    responses_.Close();  // those that run hold the model
    model.reset();
    std::lock_guard lock(mutex_);
    shut_down_ = true;
    changed_.notify_all();  // with the lock: who waits may end the server
  }

  int port() const override { return http_->port(); }

  std::string url() const override {
    if (!options_.uds.empty()) return "unix:" + options_.uds;
    std::string host = options_.host.empty() ? "0.0.0.0" : options_.host;
    if (host.find(':') != std::string::npos) host = "[" + host + "]";
    return fmt::format("{}://{}:{}", options_.ssl_certfile.empty() ? "http" : "https", host,
                       http_->port());
  }

  std::vector<std::string> RouteLines() const override { return router_.Lines(); }

 private:
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

  void Generate(const Call& call, const api::Endpoint& endpoint) {
    const auto model = NeedModel(call);
    if (model == nullptr) return;
    // As if the route were not there; said with more words.
    if (const auto error = api::CheckOffered(endpoint, model->info)) {
      return ReplyError(call, *error, endpoint.protocol);
    }
    if (!CheckJsonType(call)) return;
    std::make_shared<Generation>(GenerationContext{options_, pool_, *board_, load_}, model,
                                 call.exchange, endpoint, call.request_id, call.headers)
        ->Start();
  }

  using BodyFunction = std::function<api::Result<std::string>(std::string_view body,
                                                              const LoadedModel& model)>;
  // Work on a body that needs no engine: on the pool, the answer from the I/O thread.
  void AnswerFromPool(const Call& call, BodyFunction work,
                      api::Protocol protocol = api::Protocol::kChat) {
    auto model = NeedModel(call);
    if (model == nullptr || !CheckJsonType(call)) return;
    // Shared, as std::function copies.
    auto taken = std::make_shared<BudgetedText>(call.exchange->TakeBody());
    const auto cost = static_cast<WorkCost>(taken->text().size());
    pool_.Post(cost, [call, protocol, model = std::move(model), work = std::move(work),
                      taken = std::move(taken)] {
      api::Result<std::string> body = api::Guarded([&] { return work(taken->text(), *model); });
      taken->Clear();
      call.exchange->Post([call, protocol, body = std::move(body)] {
        if (body) {
          Reply(call, *body);
        } else {
          ReplyError(call, body.error(), protocol);
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
    MetricsText text(created_);
    const auto model = Model();
    if (options_.log_stats) {
      EngineMetricsInfo info;
      info.model_name = options_.served_model_names[0];
      info.cache_config_labels = options_.cache_config_labels;
      if (model != nullptr) {
        info.cache_config_labels.emplace_back(
            "block_size", std::to_string(model->engine->options().block_size));
        info.sleeping = model->engine->sleeping();
      }
      WriteEngineMetrics(StatsOfEngines(model.get()), info, &text);
    }
    router_.metrics().Write(&text);
    if (options_.spans != nullptr) WriteTraceMetrics(options_.spans->counts(), &text);
    WriteProcessMetrics(&text);
    Reply(call, text.Finish(), "text/plain; version=0.0.4; charset=utf-8");
  }

  std::vector<EngineMetrics> StatsOfEngines(const LoadedModel* model) const {
    std::vector<engine::Stats> stats =
        model != nullptr ? model->engine->GetStats()
                         : std::vector<engine::Stats>(static_cast<size_t>(options_.num_engines),
                                                      engine::Stats::Empty(ExpectedModelLen()));
    std::vector<EngineMetrics> engines;
    for (engine::Stats& each : stats) {
      engines.push_back({std::move(each), std::to_string(options_.first_engine + std::ssize(engines))});
    }
    return engines;
  }

  // For the histograms' buckets before the model is there.
  int64_t ExpectedModelLen() const {
    constexpr int64_t kQwen3 = 40960;
    return options_.max_model_len > 0 ? options_.max_model_len : kQwen3;
  }

  void Version(const Call& call) const {
    std::string body = R"({"version":)";
    api::AppendJsonString(&body, options_.version);
    Reply(call, body + "}");
  }

  void Load(const Call& call) const {
    const int64_t load = options_.enable_server_load_tracking ? load_.load() : 0;
    Reply(call, fmt::format(R"({{"server_load":{}}})", load));
  }

  void ServerInfo(const Call& call) const {
    Reply(call, options_.server_info_json.empty() ? "{}" : options_.server_info_json);
  }

  void Models(const Call& call) const {
    if (const auto model = NeedModel(call)) Reply(call, api::ModelsBody(model->info));
  }

  void TokenizerInfo(const Call& call) const {
    if (const auto model = NeedModel(call)) Reply(call, model->tokenizer_info_json);
  }

  void Sleep(const Call& call) {
    auto model = NeedModel(call);
    if (model == nullptr) return;
    const auto last = [&](std::string_view name, std::string fallback) {
      const std::vector<std::string> values = call.exchange->request().Query(name);
      return values.empty() ? fallback : values.back();
    };
    const std::string level = last("level", "1"), mode = last("mode", "abort");
    if (level != "1") {
      return ReplyError(call, api::BadParameter("level must be 1: the weights stay in memory.", "level",
                                                level.substr(0, 64)));
    }
    if (mode != "abort" && mode != "wait") {
      return ReplyError(call, api::BadParameter("mode must be 'abort' or 'wait'.", "mode",
                                                mode.substr(0, 64)));
    }
    // It waits for the engine: nothing for the thread that is kept for short work.
    pool_.Post(kMaxShortCost + 1, [call, abort = mode == "abort", model = std::move(model)] {
      const bool done = model->engine->Sleep(abort);
      call.exchange->Post([call, done] {
        if (done) return Reply(call, R"({"status":"sleeping","level":"1"})");
        ReplyError(call, {503, "ServiceUnavailableError", "The engine has ended, or was woken before it slept.", std::nullopt});
      });
    });
  }

  void WakeUp(const Call& call) const {
    const auto model = NeedModel(call);
    if (model == nullptr) return;
    model->engine->WakeUp();
    std::string body = R"({"status":"awake","tags":[)";
    const std::vector<std::string> tags = call.exchange->request().Query("tags");
    for (size_t i = 0; i < tags.size(); ++i) {
      if (i > 0) body += ',';
      api::AppendJsonString(&body, tags[i]);
    }
    Reply(call, body + "]}");
  }

  void IsSleeping(const Call& call) const {
    const auto model = NeedModel(call);
    if (model == nullptr) return;
    Reply(call, fmt::format(R"({{"is_sleeping":{}}})", model->engine->sleeping()));
  }

  void ShowDocument(const Call& call) const {
    if (const auto model = NeedModel(call)) Reply(call, model->document->json());
  }

  void ShowDocumentPage(const Call& call) const {
    const auto model = NeedModel(call);
    if (model == nullptr) return;
    call.exchange->Respond(model->document->page().Answer(call.exchange->request(), call.headers));
  }

  void ShowPage(const Call& call) const {
    call.exchange->Respond(page_.Answer(call.exchange->request(), call.headers));
  }

  // On the pool, as the engine answers between two steps.
  void ResetPrefixCache(const Call& call) {
    auto model = NeedModel(call);
    if (model == nullptr) return;
    // It waits for the engine: nothing for the thread that is kept for short work.
    pool_.Post(kMaxShortCost + 1, [call, model = std::move(model)] {
      const bool done = model->engine->ResetPrefixCache();
      call.exchange->Post([call, done] { Reply(call, fmt::format(R"({{"success":{}}})", done)); });
    });
  }

  void MakeRoutes() {
    const auto get = [this](auto handler, OperationText text) {
      return Router::Methods{{"GET", [this, handler](const Call& c) { std::invoke(handler, this, c); }, text}};
    };
    const auto from_pool = [this](BodyFunction work, OperationText text) {
      return Router::Methods{{"POST", [this, work, protocol = text.protocol](const Call& c) {
                                AnswerFromPool(c, work, protocol);
                              }, text}};
    };
    const Router::Handler health = [this](const Call& c) { Health(c); };
    const OperationText healthy = {.summary = "200 while the server serves, 503 before and after.", .answer = ""};
    router_.Add("/health", {{"GET", health, healthy}}, false);
    router_.Add("/ping", {{"GET", health, healthy}, {"POST", health, healthy}}, false);
    router_.Add("/load", get(&ServerImpl::Load, {"How many requests are being answered."}), false);
    router_.Add("/version", get(&ServerImpl::Version, {"The program's version."}), false);
    router_.Add("/metrics", get(&ServerImpl::Metrics, {.summary = "Counters and histograms in Prometheus' format.",
                                                       .answer = "text/plain"}), false);
    router_.Add("/tokenize", from_pool([](std::string_view body, const LoadedModel& model) {
                  return api::TokenizeBody(body, model.info, model.api);
                }, {"The tokens of a text or of a conversation.", api::TokenizeForms}));
    router_.Add("/detokenize", from_pool([](std::string_view body, const LoadedModel& model) {
                  return api::DetokenizeBody(body, model.info);
                }, {"The text of tokens.", api::DetokenizeForms}));
    router_.Add("/v1/models", get(&ServerImpl::Models, {"The model's names."}));
    for (const api::Endpoint& endpoint : api::Endpoints()) {
      router_.Add(std::string(endpoint.path),
                  {{"POST", [this, &endpoint](const Call& c) { Generate(c, endpoint); },
                    {.summary = endpoint.summary, .forms = endpoint.forms, .protocol = endpoint.protocol,
                     .endpoint = &endpoint}}});
    }
    AddKeptResponses(options_.api.response_store, &router_);
    router_.Add("/v1/messages/count_tokens", from_pool([](std::string_view body, const LoadedModel& model) {
                  return api::CountTokensBody(body, model.info, model.api);
                }, {.summary = "The number of a conversation's tokens.", .forms = api::CountTokensForms,
                    .protocol = api::Protocol::kMessages}));
    if (options_.ui) {
      router_.Add("/", get(&ServerImpl::ShowPage, {.summary = "A page to chat and to see the server's load.",
                                                   .answer = "text/html"}));
    }
    if (options_.tokenizer_info) {
      router_.Add("/tokenizer_info", get(&ServerImpl::TokenizerInfo, {"The tokenizer's configuration."}));
    }
    if (options_.dev_mode) AddDevelopmentRoutes();
    if (!options_.document) return;
    router_.Add("/openapi.json", get(&ServerImpl::ShowDocument, {"This document."}));
    for (const char* path : {"/docs", "/redoc"}) {
      router_.Add(path, get(&ServerImpl::ShowDocumentPage, {.summary = "This document as a page.",
                                                            .answer = "text/html"}));
    }
  }

  void AddDevelopmentRoutes() {
    using V = api::ValueSchema;
    if (options_.sleep_mode) {
      router_.Add("/sleep", {{"POST", [this](const Call& c) { Sleep(c); },
                              {.summary = "Gives the memory of the KV cache back; until /wake_up requests get 503.",
                               .query = {{"level", V::OneOf({"1"}), "The weights stay in memory."},
                                         {"mode", V::OneOf({"abort", "wait"}), "What becomes of requests that run."}}}}});
      router_.Add("/wake_up", {{"POST", [this](const Call& c) { WakeUp(c); },
                                {.summary = "Takes it again.",
                                 .query = {{"tags", V::List(V::String()), "Are repeated in the answer."}}}}});
      router_.Add("/is_sleeping", {{"GET", [this](const Call& c) { IsSleeping(c); },
                                    {"Whether the server sleeps."}}}, false);
    }
    router_.Add("/server_info", {{"GET", [this](const Call& c) { ServerInfo(c); },
                                  {"How the server was started."}}}, false);
    router_.Add("/reset_prefix_cache", {{"POST", [this](const Call& c) { ResetPrefixCache(c); },
                                         {"Empties the prefix cache."}}});
  }

  ServerOptions options_;
  api::ResponseStore responses_;  // used with keep_responses alone
  const double created_ = std::chrono::duration<double>(
                              std::chrono::system_clock::now().time_since_epoch()).count();
  const Page page_{std::string(kPageHtml)};
  Router router_{options_, [this] { return Model() == nullptr; }};
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
