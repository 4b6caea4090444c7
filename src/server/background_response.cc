#include "server/background_response.h"

#include <utility>

#include "api/responses_writer.h"
#include "base/log.h"
#include "server/event_streamer.h"

namespace tiercel::server {

BackgroundResponse::BackgroundResponse(const GenerationContext& context, std::shared_ptr<const LoadedModel> model,
                                       RequestTrace trace, api::ResponsePlan plan)
    : context_(context),
      model_(std::move(model)),
      events_(plan.stream ? std::make_shared<api::ResponseEvents>() : nullptr),
      trace_(std::move(trace)),
      responder_(std::move(plan)) {
  context_.load.fetch_add(1);
}

BackgroundResponse::~BackgroundResponse() {
  context_.load.fetch_sub(1);
  if (ended_) return;
  trace_.Failed("The response was cancelled.");
  if (events_ == nullptr) return;
  try {
    AppendError({503, "cancelled", "The response was cancelled, or the server ends.", std::nullopt});
    events_->Close();
  } catch (...) {
    LOG_ERROR("response {}: no memory to say that it was cancelled", plan().id);
  }
}

api::Result<void> BackgroundResponse::Start(const GenerationContext& context, std::shared_ptr<const LoadedModel> model,
                                            Caller caller, RequestTrace trace, api::PreparedRequest prepared) {
  engine::Engine& engine = *model->engine;
  const auto self = std::make_shared<BackgroundResponse>(context, std::move(model), std::move(trace),
                                                         std::move(prepared.plan));
  const std::string& id = self->plan().id;
  const std::string body = self->Body();
  const Status kept = self->store().Put(id, {"", self->plan().keep->input, self, self->events_});
  if (!kept.ok()) {
    self->ended_ = true;
    self->trace_.Failed(kept.message());
    return api::Fail(api::FromStatus(kept));
  }
  const api::Result<void> begun = api::Guarded([&]() -> api::Result<void> {
    API_ASSIGN_OR_RETURN(Streams streams,
                         SubmitAll(engine, id, prepared.requests, &self->trace_,
                                   context.board.NotifierOf(caller.exchange->io_thread(), self)));
    // Shared, as std::function copies. Until then no news are read.
    auto taken = std::make_shared<Streams>(std::move(streams));
    caller.exchange->Post([self, taken, body, caller] {
      self->streams_ = std::move(*taken);
      self->OnNews();
      if (self->events_ != nullptr) return StreamEvents(caller.exchange, caller.headers, self->events_, 0);
      caller.exchange->Respond({200, "application/json", body, caller.headers});
    });
    return {};
  });
  if (!begun) {
    self->ended_ = true;
    self->trace_.Failed(begun.error().message);
    self->store().Remove(id);
  }
  return begun;
}

std::string BackgroundResponse::Body() const {
  return api::ResponseBody(plan(), begun_.load() ? "in_progress" : "queued");
}

std::string BackgroundResponse::CancelledBody() const { return api::ResponseBody(plan(), "cancelled"); }

size_t BackgroundResponse::bytes() const {
  constexpr size_t kBody = 1024;  // beside what it repeats of the request: names, usage, a fault
  return kBody + plan().echo.size() + pending_bytes_.load() + (events_ != nullptr ? events_->bytes() : 0);
}

void BackgroundResponse::OnNews() {
  try {
    ReadNews();
  } catch (...) {
    try {
      Fail(api::FromException());
    } catch (...) {
      LOG_ERROR("response {}: no memory to say how it ended", plan().id);
      store().Remove(plan().id);
    }
  }
}

void BackgroundResponse::ReadNews() {
  if (ended_ || streams_.empty()) return;
  responder_.Consume(0, streams_[0].get());
  if (responder_.answer().prompts[0].known) begun_.store(true);
  if (responder_.error()) return Fail(*responder_.error());
  if (events_ != nullptr) {
    std::string events;
    responder_.TakeEvents(&events);
    events_->Append(events);
  }
  if (responder_.done()) return End();
  pending_bytes_.store(static_cast<size_t>(responder_.pending_bytes()));
  if (!store().Grow(plan().id, this)) {
    return Fail({503, "ServiceUnavailableError", "There is no room to keep a response as long as this one.",
                 std::nullopt});
  }
  if (events_ != nullptr) events_->Show();
}

void BackgroundResponse::End() {
  trace_.Ended(0, responder_.answer());
  if (!store().Finish(plan().id, this, responder_.TakeBody(), events_)) {
    return Fail({503, "ServiceUnavailableError", "There is no room to keep a response as long as this one.",
                 std::nullopt});
  }
  ended_ = true;
  streams_.clear();
  // Whoever has read the last event may ask for the response.
  if (events_ != nullptr) events_->Close();
}

void BackgroundResponse::Fail(const api::ApiError& error) {
  ended_ = true;
  streams_.clear();
  trace_.Failed(error.message);
  if (events_ != nullptr) AppendError(error);
  const std::string body = api::ResponseBody(plan(), "failed", {"", "null", error.message});
  if (!store().Finish(plan().id, this, body, events_) && !store().Finish(plan().id, this, body, nullptr)) {
    store().Remove(plan().id);
  }
  if (events_ != nullptr) events_->Close();
}

void BackgroundResponse::AppendError(const api::ApiError& error) {
  events_->Append(api::ErrorEvents(error, api::Protocol::kResponses, responder_.num_events()));
}

}  // namespace tiercel::server
