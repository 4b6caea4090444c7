#include "server/url.h"

#include <algorithm>

namespace tiercel::server {

Expected<Url> Url::Parse(std::string_view text) {
  const auto bad = [&](const char* why) {
    return Unexpected(InvalidArgument("URL {}: {}", text, why));
  };
  if (std::any_of(text.begin(), text.end(),
                  [](unsigned char c) { return c <= 0x20 || c == 0x7f || c == '\\'; })) {
    return bad("blanks, control characters and backslashes are not allowed");
  }
  Url url;
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) return bad("expected http:// or https://");
  url.scheme = text.substr(0, scheme_end);
  if (url.scheme != "http" && url.scheme != "https") return bad("expected http:// or https://");
  std::string_view rest = text.substr(scheme_end + 3);
  rest = rest.substr(0, rest.find('#'));
  const size_t target = rest.find_first_of("/?");
  std::string_view authority = rest.substr(0, target);
  url.target = target == std::string_view::npos ? "/" : std::string(rest.substr(target));
  if (url.target.front() == '?') url.target.insert(0, "/");
  if (authority.find('@') != std::string_view::npos) return bad("user names are not supported");
  std::string_view port;
  if (!authority.empty() && authority.front() == '[') {
    const size_t close = authority.find(']');
    if (close == std::string_view::npos) return bad("expected ] after the IPv6 address");
    url.host = authority.substr(1, close - 1);
    authority.remove_prefix(close + 1);
    if (!authority.empty() && authority.front() != ':') return bad("expected :port after ]");
    if (!authority.empty()) port = authority.substr(1);
  } else {
    const size_t colon = authority.find(':');
    url.host = authority.substr(0, colon);
    if (colon != std::string_view::npos) port = authority.substr(colon + 1);
  }
  if (url.host.empty()) return bad("the host is missing");
  if (!port.empty() && (port.size() > 5 || port.find_first_not_of("0123456789") != port.npos)) {
    return bad("the port is not a number");
  }
  url.port = port.empty() ? (url.scheme == "https" ? "443" : "80") : std::string(port);
  return url;
}

Expected<Url> Url::Resolve(std::string_view reference) const {
  if (reference.find("://") != std::string_view::npos) return Parse(reference);
  if (reference.substr(0, 2) == "//") return Parse(scheme + ":" + std::string(reference));
  Url url = *this;
  if (!reference.empty() && reference.front() == '/') {
    url.target = reference;
  } else {
    const std::string path = target.substr(0, target.find('?'));
    url.target = path.substr(0, path.rfind('/') + 1) + std::string(reference);
  }
  url.target = url.target.substr(0, url.target.find('#'));
  if (std::any_of(url.target.begin(), url.target.end(),
                  [](unsigned char c) { return c <= 0x20 || c == 0x7f; })) {
    return Unexpected(InvalidArgument("redirect to {}: not a URL", reference));
  }
  return url;
}

}  // namespace tiercel::server
