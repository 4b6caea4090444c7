// OtlpTarget: where traces go, from --otlp-traces-endpoint and OpenTelemetry's variables.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/environ.h"
#include "base/status.h"

namespace tiercel::serving {

struct OtlpTarget {
  std::string url;
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<std::pair<std::string, std::string>> resource;  // attributes; service.name among them
};

// `flag`: the flag's value, "" if not given; then OTEL_EXPORTER_OTLP_TRACES_ENDPOINT counts. Nothing where
// neither is set. An address of gRPC is the flag's fault; in a variable, which may be meant for other
// programs, a warning.
Expected<std::optional<OtlpTarget>> ReadOtlpTarget(const std::string& flag, const Environ& environ,
                                                   std::vector<std::string>* warnings);

}  // namespace tiercel::serving
