// The server's routes and their bodies told to programs, as an OpenAPI document, and to people, as
// a page of it.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "api/body_schemas.h"
#include "api/endpoints.h"
#include "server/loaded_model.h"
#include "server/page.h"
#include "server/server.h"

namespace tiercel::server {

// What one method of a route tells of itself.
struct OperationText {
  std::string_view summary;
  api::BodyFormsMaker forms = nullptr;  // null: it takes no body
  std::string_view answer =
      "application/json";  // the media type of its answer; empty: that has no body
  api::Protocol protocol = api::Protocol::kChat;  // of its errors
  api::FieldSchemas query = {};                   // parameters of its address
  const api::Endpoint* endpoint = nullptr;        // that it runs; null: it needs no engine
};

struct Operation {
  std::string_view method, path;  // a path may have a {name}
  const OperationText& text;
};

// Immutable. Made when the model has been loaded: what it offers depends on it.
class ApiDocument {
 public:
  // The operations that this model has are taken in their order; nothing is kept of the arguments.
  ApiDocument(std::span<const Operation> operations, const ServerOptions& options,
              const LoadedModel& model);

  const std::string& json() const { return json_; }  // OpenAPI 3.1
  const Page& page() const { return page_; }

 private:
  const std::string json_;
  const Page page_;
};

}  // namespace tiercel::server
