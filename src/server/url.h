// Url: the parts of an http or https URL.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace tiercel::server {

struct Url {
  std::string scheme;  // http | https
  std::string host;    // without the brackets of IPv6
  std::string port;    // never empty
  std::string target;  // path and query, at least "/"
  // Bad or unsupported URLs are kInvalidArgument.
  static Expected<Url> Parse(std::string_view text);
  // Resolves a Location header.
  Expected<Url> Resolve(std::string_view reference) const;
};

}  // namespace tiercel::server
