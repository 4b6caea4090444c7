#include "bench/client_request.h"

#include <utility>

namespace tiercel::bench {

using api::Json;

net::HttpRequestSpec MakeSpec(const Target& target, const BenchRequest& request,
                              const std::string& id) {
  Json body(Json::Object{{"model", Json(target.model)}});
  if (target.chat) {
    Json part = Json::Of({{"type", Json("text")}, {"text", Json(request.prompt)}});
    Json message =
        Json::Of({{"role", Json("user")}, {"content", Json(Json::Array{std::move(part)})}});
    body.Set("messages", Json(Json::Array{std::move(message)}));
    body.Set("max_completion_tokens", Json(request.output_tokens));
    if (target.logprobs) {
      body.Set("logprobs", Json(true));
      body.Set("top_logprobs", Json(*target.logprobs));
    }
  } else {
    body.Set("prompt", Json(request.prompt));
    body.Set("repetition_penalty", Json(1.0));
    body.Set("max_tokens", Json(request.output_tokens));
    if (target.logprobs) body.Set("logprobs", Json(*target.logprobs));
  }
  body.Set("stream", Json(true));
  body.Set("stream_options", Json::Of({{"include_usage", Json(true)}}));
  if (target.ignore_eos) body.Set("ignore_eos", Json(true));
  for (const Json::Member& member : target.extra_body) body.Set(member.key, member.value);

  net::HttpRequestSpec spec;
  spec.method = "POST";
  spec.url = target.url;
  spec.headers = target.headers;
  spec.headers.emplace_back("Content-Type", "application/json");
  if (!id.empty()) spec.headers.emplace_back("x-request-id", id);
  spec.body = body.Dump();
  return spec;
}

}  // namespace tiercel::bench
