// The HTTP requests that a benchmark sends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "api/json.h"
#include "bench/data_sets.h"
#include "net/http_client.h"

namespace tiercel::bench {

// What all requests of a run have in common.
struct Target {
  std::string url;    // of the endpoint
  std::string model;  // as the server calls it
  bool chat = false;  // chat completions, else completions
  net::HttpHeaders headers;
  bool ignore_eos = false;
  std::optional<int64_t> logprobs;
  api::Json::Object extra_body;  // sampling parameters, --extra-body; goes last and replaces
};

// `id`, unless empty, is sent as x-request-id.
net::HttpRequestSpec MakeSpec(const Target& target, const BenchRequest& request,
                              const std::string& id);

}  // namespace tiercel::bench
