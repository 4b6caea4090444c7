// The events of a response in the background as the answer to a request that watches it.
#pragma once

#include <cstdint>
#include <memory>

#include "api/response_events.h"
#include "server/http_server.h"

namespace tiercel::server {

// Answers with the events from number `first` on, those that there are and those that come, until they end or the
// client goes. On the exchange's I/O thread.
void StreamEvents(const std::shared_ptr<Exchange>& exchange, HttpHeaders headers,
                  std::shared_ptr<const api::ResponseEvents> events, int64_t first);

}  // namespace tiercel::server
