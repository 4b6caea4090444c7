// Spans as a body of OTLP over HTTP with JSON, by OpenTelemetry's protocol 1.x.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "server/tracing.h"
#include "serving/otlp_target.h"

namespace tiercel::tools {

// Names and attributes are vLLM's. `random` gives the ids: of every span, and of traces that begin here.
std::string OtlpTracesBody(const serving::OtlpTarget& target, std::span<const server::RequestSpan> spans,
                           const std::function<uint64_t()>& random);

}  // namespace tiercel::tools
