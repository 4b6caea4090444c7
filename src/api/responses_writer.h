// The body of a response of /v1/responses, in each of its states.
#pragma once

#include <string>
#include <string_view>

#include "api/response_plan.h"

namespace tiercel::api {

struct ResponseEnd {
  std::string_view output;          // items, with commas between them
  std::string_view usage = "null";
  std::string_view fault;           // of the server, or empty
};

std::string ResponseBody(const ResponsePlan& plan, std::string_view status, const ResponseEnd& end = {});

}  // namespace tiercel::api
