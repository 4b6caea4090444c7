#include "server/generation.h"

#include <fmt/ranges.h>

#include <new>

#include "api/json_writer.h"
#include "base/log.h"
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
  api::Result<Streams> streams = api::Guarded([&] { return Submit(&*prepared); });
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

api::Result<Generation::Streams> Generation::Submit(api::PreparedRequest* prepared) {
  Streams streams;
  for (engine::Request& request : prepared->requests) {
    trace_.AddPrompt(request);
    // Runs on the engine thread. Pinned once until it has looked.
    auto on_news = [weak = weak_from_this(), board = &context_.board,
                    io_thread = exchange_->io_thread()] {
      auto self = weak.lock();
      if (self && !self->pinned_.exchange(true)) board->Pin(io_thread, std::move(self));
    };
    Expected<std::unique_ptr<engine::Stream>> stream =
        model_->engine->Submit(std::move(request), std::move(on_news));
    if (!stream) {
      if (stream.error().code() == StatusCode::kInternal) {
        LOG_ERROR("request {}: {}", prepared->plan.id, stream.error().message());
      }
      return api::Fail(api::FromStatus(stream.error()));
    }
    streams.push_back(std::move(*stream));
  }
  return streams;
}

void Generation::Begin(api::ResponsePlan plan, Streams streams) {
  if (client_gone_.load()) return;  // the streams go with this scope
  responder_ = std::make_unique<api::Responder>(std::move(plan));
  streams_ = std::move(streams);
  if (responder_->plan().stream) {
    HttpReply head{200, "text/event-stream; charset=utf-8", "", headers_};
    head.headers.emplace_back("Cache-Control", "no-cache");
    head.headers.emplace_back("X-Accel-Buffering", "no");
    exchange_->BeginStream(std::move(head));
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
    responder_.reset();
    try {
      Fail(api::FromException());
    } catch (...) {
      exchange_->Abort();  // no memory to say so
    }
  }
}

void Generation::Fail(const api::ApiError& error) {
  trace_.Failed(error.message);
  if (client_gone_.load()) return;
  if (!head_sent_) {
    exchange_->Respond(ErrorReply(error, headers_, endpoint_.protocol));
    return;
  }
  exchange_->Write(api::ErrorEvents(error, endpoint_.protocol));
  exchange_->EndStream();
}

void Generation::OnNews() {
  pinned_.store(false);
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
      exchange_->Respond({200, "application/json", responder_->TakeBody(), headers_});
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
  if (!events.empty()) exchange_->Write(events);
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
