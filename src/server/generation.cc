#include "server/generation.h"

#include <fmt/ranges.h>

#include <new>

#include "api/json_writer.h"
#include "base/log.h"
#include "server/background_response.h"
#include "server/router.h"

namespace tiercel::server {

namespace {

// A client may pause for so long, and a first piece (an echoed prompt with log-probabilities) may
// be large: only one that has not taken the last piece in this time does not read.
constexpr double kPatienceSeconds = 2;

// At most that many characters of valid UTF-8.
std::string_view CutText(std::string_view text, size_t most) {
  size_t characters = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool begins_one = (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
    if (begins_one && ++characters > most) return text.substr(0, i);
  }
  return text;
}

// Clients of /v1/messages know an event of its own for it, and close a stream that is silent for some minutes, which
// a long prompt takes.
Pulse PulseOf(api::Protocol protocol, const ServerOptions& options) {
  if (protocol != api::Protocol::kMessages) return {};
  const double asked = options.sse_keep_alive_interval_s;
  return {"event: ping\ndata: {\"type\":\"ping\"}\n\n", asked > 0 ? asked : options.ping_interval_s};
}

}  // namespace

Generation::Generation(GenerationContext context, std::shared_ptr<const LoadedModel> model,
                       std::shared_ptr<Exchange> exchange, const api::Endpoint& endpoint,
                       std::string request_id, HttpHeaders headers)
    : context_(context),
      model_(std::move(model)),
      exchange_(std::move(exchange)),
      endpoint_(endpoint),
      request_id_(std::move(request_id)),
      headers_(std::move(headers)),
      trace_(context.options.spans, exchange_->request(), request_id_) {
  context_.load.fetch_add(1);
}

Generation::~Generation() { context_.load.fetch_sub(1); }

void Generation::Start() {
  exchange_->SetCallbacks([self = shared_from_this()] { self->Answer([&] { self->WriteDue(); }); },
                          [self = shared_from_this()] {
                            self->client_gone_.store(true);
                            self->streams_.clear();
                          });
  body_ = exchange_->TakeBody();
  const auto cost = static_cast<WorkCost>(body_.text().size());
  context_.pool.Post(cost, [self = shared_from_this()] { self->PrepareAndSubmit(); });
}

void Generation::PrepareAndSubmit() {
  if (client_gone_.load()) return;
  api::Result<api::PreparedRequest> prepared = api::Guarded(
      [&] { return endpoint_.prepare(body_.text(), request_id_, model_->info, model_->api); });
  body_.Clear();
  if (!prepared) {
    exchange_->Post([self = shared_from_this(), error = prepared.error()] { self->Fail(error); });
    return;
  }
  prepared->plan.fingerprint = context_.options.fingerprint;
  if (context_.options.log_requests) LogRequest(*prepared);
  if (client_gone_.load()) return;
  if (prepared->plan.keep && prepared->plan.keep->background) return RunInBackground(std::move(*prepared));
  // The notifier runs on the engine thread.
  api::Result<Streams> streams = api::Guarded([&] {
    return SubmitAll(*model_->engine, prepared->plan.id, prepared->requests, &trace_,
                     context_.board.NotifierOf(exchange_->io_thread(), weak_from_this()));
  });
  if (!streams) {
    exchange_->Post([self = shared_from_this(), error = streams.error()] { self->Fail(error); });
    return;
  }
  // Shared, as std::function copies.
  auto taken = std::make_shared<Streams>(std::move(*streams));
  exchange_->Post([self = shared_from_this(), plan = std::move(prepared->plan), taken]() mutable {
    self->Answer([&] { self->Begin(std::move(plan), std::move(*taken)); });
  });
}

void Generation::RunInBackground(api::PreparedRequest prepared) {
  const api::Result<void> started = api::Guarded([&] {
    return BackgroundResponse::Start(context_, model_, {exchange_, headers_}, std::move(trace_), std::move(prepared));
  });
  if (!started) exchange_->Post([self = shared_from_this(), error = started.error()] { self->Fail(error); });
}

void Generation::Begin(api::ResponsePlan plan, Streams streams) {
  if (client_gone_.load()) return;  // the streams go with this scope
  responder_ = std::make_unique<api::Responder>(std::move(plan));
  streams_ = std::move(streams);
  if (responder_->plan().stream) {
    exchange_->BeginStream(EventStreamHead(headers_), PulseOf(endpoint_.protocol, context_.options));
    head_sent_ = true;
  }
  ReadNews();
}

template <typename Step>
void Generation::Answer(Step&& step) {
  try {
    step();
  } catch (...) {
    // Of this request alone: the others have their news to read.
    streams_.clear();
    const int64_t num_events = responder_ != nullptr ? responder_->num_events() : 0;
    responder_.reset();
    try {
      Fail(api::FromException(), num_events);
    } catch (...) {
      exchange_->Abort();  // no memory to say so
    }
  }
}

void Generation::Keep(std::string body) const {
  const api::ResponsePlan& plan = responder_->plan();
  const Status status =
      model_->api.response_store->Put(plan.id, {std::move(body), plan.keep->input, nullptr, nullptr});
  if (!status.ok()) LOG_WARNING("response {} is not kept: {}", plan.id, status.message());
}

void Generation::Fail(const api::ApiError& error, int64_t event) {
  trace_.Failed(error.message);
  if (client_gone_.load()) return;
  if (!head_sent_) {
    exchange_->Respond(ErrorReply(error, headers_, endpoint_.protocol));
    return;
  }
  exchange_->Write(api::ErrorEvents(error, endpoint_.protocol, event));
  exchange_->EndStream();
}

void Generation::OnNews() {
  Answer([this] { ReadNews(); });
}

void Generation::ReadNews() {
  if (streams_.empty() || client_gone_.load()) return;
  for (size_t i = 0; i < streams_.size(); ++i) {
    responder_->Consume(static_cast<int>(i), streams_[i].get());
    if (!responder_->error() && streams_[i]->finished()) trace_.Ended(i, responder_->answer());
  }
  if (responder_->error()) trace_.Failed(responder_->error()->message);
  if (responder_->done()) streams_.clear();
  WriteDue();
}

void Generation::WriteDue() {
  if (responder_ == nullptr || client_gone_.load()) return;
  if (!responder_->plan().stream) {
    if (!responder_->done()) return;
    if (responder_->error()) {
      Fail(*responder_->error());
    } else {
      std::string body = responder_->TakeBody();
      if (responder_->plan().keep) Keep(body);  // before the client can ask for it
      exchange_->Respond({200, "application/json", std::move(body), headers_});
    }
    return;
  }
  if (!exchange_->writable()) {
    // A slow client finds its deltas merged when it has taken the last ones, up to a bound.
    if (exchange_->write_seconds() >= kPatienceSeconds &&
        responder_->pending_bytes() > context_.options.max_unsent_bytes) {
      LOG_WARNING("request {}: aborted, its client does not read: {} bytes wait",
                  responder_->plan().id, responder_->pending_bytes());
      trace_.Failed("The client does not read.");
      exchange_->Abort();
    }
    return;
  }
  std::string events;
  responder_->TakeEvents(&events);
  if (!events.empty()) {
    // Whoever has read the last event may ask for the response.
    if (responder_->done() && !responder_->error() && responder_->plan().keep) Keep(responder_->TakeBody());
    exchange_->Write(events);
  }
  if (responder_->done()) exchange_->EndStream();
}

// The prompt itself only at DEBUG, as vLLM does.
void Generation::LogRequest(const api::PreparedRequest& prepared) const {
  for (const engine::Request& request : prepared.requests) {
    if (request.pooling != nullptr) {
      LOG_INFO("Received request {}: prompt tokens: {}, pooled", request.id, request.prompt.size());
      continue;
    }
    const sampling::SamplingParams& params = *request.params;
    LOG_INFO("Received request {}: prompt tokens: {}, params: n={}, temperature={}, top_p={}, "
             "top_k={}, max_tokens={}, stop={}, stream={}",
             request.id, request.prompt.size(), params.n, params.temperature, params.top_p,
             params.top_k, params.max_tokens, params.stop.size(), prepared.plan.stream);
    if (!spdlog::should_log(spdlog::level::debug)) continue;
    const size_t most = context_.options.max_log_len
                            ? static_cast<size_t>(*context_.options.max_log_len)
                            : request.prompt.size();
    const std::span ids = std::span(request.prompt).first(std::min(most, request.prompt.size()));
    // A character may take four tokens, one for each of its bytes.
    const std::span some = std::span(request.prompt).first(std::min(4 * most, request.prompt.size()));
    std::string text;
    api::AppendJsonString(&text, CutText(model_->info.tokenizer->Decode(some, false), most));
    LOG_DEBUG("Request {} details: prompt: {}, prompt_token_ids: [{}]", request.id, text,
              fmt::join(ids, ", "));
  }
}

}  // namespace tiercel::server
