// Base64 of RFC 4648, with padding.
#pragma once

#include <string>
#include <string_view>

namespace tiercel::api {

void AppendBase64(std::string_view bytes, std::string* out);

}  // namespace tiercel::api
