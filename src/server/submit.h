// Submitting what was prepared of one request to the engine.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "api/errors.h"
#include "api/prepare.h"
#include "engine/engine.h"
#include "server/request_trace.h"

namespace tiercel::server {

using Streams = std::vector<std::unique_ptr<engine::Stream>>;

// One stream for each prompt; `on_news` as Engine::Submit has it. The requests are moved out. `id`: of the body,
// for the log.
api::Result<Streams> SubmitAll(engine::Engine& engine, const std::string& id, std::span<engine::Request> requests,
                               RequestTrace* trace, const std::function<void()>& on_news);

}  // namespace tiercel::server
