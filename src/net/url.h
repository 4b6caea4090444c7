// Url: the parts of an http or https URL, as libcurl reads it.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace tiercel::net {

struct Url {
  std::string scheme;  // http | https
  std::string host;    // lower case; IPv6 in brackets
  std::string port;    // never empty
  std::string target;  // path and query, at least "/"

  // Bad or unsupported URLs are kInvalidArgument. User names and fragments are no part of it.
  static Expected<Url> Parse(std::string_view text);
  // Resolves a Location header.
  Expected<Url> Resolve(std::string_view reference) const;

  std::string Origin() const;  // "https://host:443"
  std::string Text() const { return Origin() + target; }
  // Whether the host can only be this machine: localhost, 127.0.0.0/8, ::1.
  bool IsLoopback() const;
};

}  // namespace tiercel::net
