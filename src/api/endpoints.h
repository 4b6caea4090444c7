// Every endpoint that runs on the engine: its paths, whose words it speaks, who reads its body, and what it may hold.
#pragma once

#include <span>
#include <string_view>

#include "api/body_schemas.h"
#include "api/prepare.h"
#include "api/protocol.h"

namespace tiercel::api {

struct Endpoint {
  std::string_view path;
  Protocol protocol;  // of errors before there is a plan; kPooling: of models that pool
  Result<PreparedRequest> (*prepare)(std::string_view body, std::string_view request_id,
                                     const ModelInfo& model, const ApiOptions& options);
  BodyFormsMaker forms;  // of a model that it is for, see CheckOffered
  std::string_view summary;
};

// At places that last.
std::span<const Endpoint> Endpoints();
const Endpoint* FindEndpoint(std::string_view path);  // null: there is none
// The 404 of an endpoint that is for models of another kind; nullopt: it is for this one.
std::optional<ApiError> CheckOffered(const Endpoint& endpoint, const ModelInfo& model);

}  // namespace tiercel::api
