// Generation: one request that needs the engine on its way through the server.
//
//   I/O thread: Start → work pool: prepare, submit → I/O thread: Begin, then OnNews per step,
//   until the answer is written or the client has gone; dropping the streams cancels them.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "api/endpoints.h"
#include "api/responder.h"
#include "engine/engine.h"
#include "server/http_server.h"
#include "server/loaded_model.h"
#include "server/news_board.h"
#include "server/request_trace.h"
#include "server/submit.h"
#include "server/work_pool.h"

namespace tiercel::server {

// What every Generation needs of the server, which outlives them all.
struct GenerationContext {
  const ServerOptions& options;
  WorkPool& pool;
  NewsBoard& board;
  std::atomic<int64_t>& load;  // requests between Start and their end
};

class Generation final : public NewsReader, public std::enable_shared_from_this<Generation> {
 public:
  Generation(GenerationContext context, std::shared_ptr<const LoadedModel> model,
             std::shared_ptr<Exchange> exchange, const api::Endpoint& endpoint,
             std::string request_id, HttpHeaders headers);
  ~Generation() override;

  void Start();
  void OnNews() override;

 private:
  void PrepareAndSubmit();                                // work pool
  void RunInBackground(api::PreparedRequest prepared);    // work pool: it answers the client as well
  // I/O thread. What they throw, for want of memory, ends the answer with an error.
  void Begin(api::ResponsePlan plan, Streams streams);
  void ReadNews();
  void WriteDue();
  template <typename Step>
  void Answer(Step&& step);
  void Keep(std::string body) const;
  // `event`: the number that its event has in a stream.
  void Fail(const api::ApiError& error, int64_t event = 0);
  void LogRequest(const api::PreparedRequest& prepared) const;

  const GenerationContext context_;
  const std::shared_ptr<const LoadedModel> model_;
  const std::shared_ptr<Exchange> exchange_;
  const api::Endpoint& endpoint_;  // the server's
  const std::string request_id_;  // the client's or a random one
  const HttpHeaders headers_;     // of the answer
  RequestTrace trace_;            // the work pool's until Begin, then the I/O thread's
  BudgetedText body_;             // from Start until it has been prepared; the work pool's
  std::atomic<bool> client_gone_{false};
  // I/O thread only.
  bool head_sent_ = false;  // of a streamed answer
  std::unique_ptr<api::Responder> responder_;
  Streams streams_;  // after model_, so that they go first
};

}  // namespace tiercel::server
