// The types of tools' parameters, from their JSON Schemas.
#pragma once

#include <memory>

#include "api/json.h"
#include "text/tool_parser.h"

namespace tiercel::api {

// `tools` have been checked: each has a function with a name. Of a schema the types of its properties
// count, of anyOf and oneOf all that are named.
std::shared_ptr<const text::ToolTypes> MakeToolTypes(const Json& tools);

}  // namespace tiercel::api
