#include "server/submit.h"

#include <utility>

#include "base/log.h"

namespace tiercel::server {

api::Result<Streams> SubmitAll(engine::Engine& engine, const std::string& id, std::span<engine::Request> requests,
                               RequestTrace* trace, const std::function<void()>& on_news) {
  Streams streams;
  for (engine::Request& request : requests) {
    trace->AddPrompt(request);
    Expected<std::unique_ptr<engine::Stream>> stream = engine.Submit(std::move(request), on_news);
    if (!stream) {
      if (stream.error().code() == StatusCode::kInternal) {
        LOG_ERROR("request {}: {}", id, stream.error().message());
      }
      return api::Fail(api::FromStatus(stream.error()));
    }
    streams.push_back(std::move(*stream));
  }
  return streams;
}

}  // namespace tiercel::server
