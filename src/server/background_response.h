// BackgroundResponse: a kept response that is computed whether or not its client stays. The store holds it until it
// has ended, is cancelled or removed, or the server ends.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "api/prepare.h"
#include "api/responder.h"
#include "api/response_store.h"
#include "server/generation.h"

namespace tiercel::server {

class BackgroundResponse final : public NewsReader,
                                 public api::ResponseRun,
                                 public std::enable_shared_from_this<BackgroundResponse> {
 public:
  // The call that asks for it.
  struct Caller {
    std::shared_ptr<Exchange> exchange;
    HttpHeaders headers;  // of the answer
  };

  // Keeps it as one that runs, submits it, and answers the caller with the response as it is now or, where the plan
  // says so, with its events. Its news are read on the caller's I/O thread. Any thread.
  static api::Result<void> Start(const GenerationContext& context, std::shared_ptr<const LoadedModel> model,
                                 Caller caller, RequestTrace trace, api::PreparedRequest prepared);
  // For Start alone.
  BackgroundResponse(const GenerationContext& context, std::shared_ptr<const LoadedModel> model, RequestTrace trace,
                     api::ResponsePlan plan);
  ~BackgroundResponse() override;  // cancels it if it has not ended

  void OnNews() override;
  std::string Body() const override;
  std::string CancelledBody() const override;
  size_t bytes() const override;

 private:
  const api::ResponsePlan& plan() const { return responder_.plan(); }
  api::ResponseStore& store() const { return *model_->api.response_store; }

  // I/O thread.
  void ReadNews();
  void End();
  void Fail(const api::ApiError& error);
  void AppendError(const api::ApiError& error);

  const GenerationContext context_;
  const std::shared_ptr<const LoadedModel> model_;
  const std::shared_ptr<api::ResponseEvents> events_;  // null: it is not streamed
  std::atomic<bool> begun_{false};                     // its prompt has been computed
  std::atomic<size_t> pending_bytes_{0};               // of what is not in the events
  RequestTrace trace_;                                 // from here on the I/O thread's
  api::Responder responder_;                           // its plan is any thread's
  bool ended_ = false;
  Streams streams_;  // after model_, so that they go first; empty before it begins
};

}  // namespace tiercel::server
