#include "server/kept_responses.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/fields.h"
#include "api/json_writer.h"
#include "api/responses_items.h"
#include "server/event_streamer.h"

namespace tiercel::server {

namespace {

using Kept = api::ResponseStore::Kept;

// The last value of a parameter of the query, or nothing.
std::string Last(const Call& call, std::string_view name) {
  std::vector<std::string> values = call.exchange->request().Query(name);
  return values.empty() ? std::string() : std::move(values.back());
}

void ReplyNotFound(const Call& call) { ReplyError(call, api::NoSuchResponse(call.parameter)); }

void Stream(const Call& call, const Kept& kept) {
  if (kept->events == nullptr) {
    return ReplyError(call, api::BadRequest("Only a response that was asked for with `background` and `stream` can be "
                                            "streamed.",
                                            "stream"));
  }
  const std::string after = Last(call, "starting_after");
  const std::optional<int64_t> number = after.empty() ? -1 : api::LaxInt(api::Json(after));
  if (!number || *number < -1 || *number == INT64_MAX) {
    return ReplyError(call, api::BadParameter("starting_after must be the sequence_number of an event.",
                                              "starting_after", after.substr(0, 64)));
  }
  StreamEvents(call.exchange, call.headers, kept->events, *number + 1);
}

void Retrieve(api::ResponseStore* store, const Call& call) {
  const Kept kept = store->Find(call.parameter);
  if (kept == nullptr) return ReplyNotFound(call);
  const std::string stream = Last(call, "stream");
  if (stream == "true" || stream == "True" || stream == "1") return Stream(call, kept);
  if (!stream.empty() && stream != "false" && stream != "False" && stream != "0") {
    return ReplyError(call, api::BadParameter("stream must be true or false.", "stream", stream.substr(0, 64)));
  }
  Reply(call, kept->ended() ? kept->body : kept->run->Body());
}

void Cancel(api::ResponseStore* store, const Call& call) {
  if (const Kept cancelled = store->Cancel(call.parameter)) return Reply(call, cancelled->body);
  if (store->Find(call.parameter) == nullptr) return ReplyNotFound(call);
  ReplyError(call, {400, "invalid_request_error", "Cannot cancel a synchronous response.", "response_id"});
}

void Remove(api::ResponseStore* store, const Call& call) {
  if (!store->Remove(call.parameter)) return ReplyNotFound(call);
  std::string body = R"({"id":)";
  api::AppendJsonString(&body, call.parameter);
  Reply(call, body + R"(,"object":"response.deleted","deleted":true})");
}

}  // namespace

void AddKeptResponses(api::ResponseStore* store, Router* router) {
  const auto on = [store](void (*handler)(api::ResponseStore*, const Call&)) -> Router::Handler {
    if (store == nullptr) return ReplyNotFound;
    return [store, handler](const Call& call) { handler(store, call); };
  };
  using V = api::ValueSchema;
  const OperationText retrieves = {
      .summary = "A response that is kept; it needs VLLM_ENABLE_RESPONSES_API_STORE=1.",
      .query = {{"stream", V::Boolean(), "Its events; of one that was asked for with background and stream."},
                {"starting_after", V::Integer().AtLeast(-1), "The events behind the one of this number."}}};
  router->Add("/v1/responses/{response_id}",
              {{"GET", on(&Retrieve), retrieves}, {"DELETE", on(&Remove), {"Forgets a response that is kept."}}});
  router->Add("/v1/responses/{response_id}/cancel",
              {{"POST", on(&Cancel), {"Ends a response that is computed in the background."}}});
}

}  // namespace tiercel::server
