#include "server/http_server.h"

#include <algorithm>

#include "base/ascii_case.h"
#include "base/percent_encoding.h"

namespace tiercel::server {

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (EqualsNoCase(key, name)) return value;
  }
  return {};
}

std::string TidyPath(std::string_view path) {
  std::string out;
  for (const char c : path) {
    if (c == '/' && !out.empty() && out.back() == '/') continue;
    out.push_back(c);
  }
  if (out.empty() || out.front() != '/') out.insert(out.begin(), '/');
  if (out.size() > 1 && out.back() == '/') out.pop_back();
  return out;
}

namespace {

// As forms write it: "%41+b" is "A b".
std::string DecodeQuery(std::string text) {
  std::replace(text.begin(), text.end(), '+', ' ');
  return PercentDecoded(text);
}

}  // namespace

std::vector<std::string> HttpRequest::Query(std::string_view name) const {
  std::vector<std::string> values;
  std::string_view query = target;
  query.remove_prefix(std::min(query.find('?'), query.size()));
  while (!query.empty()) {
    query.remove_prefix(1);  // '?' or '&'
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    const size_t equals = std::min(pair.find('='), pair.size());
    if (DecodeQuery(std::string(pair.substr(0, equals))) == name) {
      values.push_back(DecodeQuery(std::string(pair.substr(std::min(equals + 1, pair.size())))));
    }
    query.remove_prefix(end);
  }
  return values;
}

std::string PathOf(std::string_view target) {
  target = target.substr(0, target.find('?'));
  // As sent to a proxy: "http://host:8000/v1/models".
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!EqualsNoCase(target.substr(0, scheme.size()), scheme)) continue;
    target.remove_prefix(scheme.size());
    target.remove_prefix(std::min(target.find('/'), target.size()));
    break;
  }
  return TidyPath(target);
}

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case kClientClosedRequest: return "Client Closed Request";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    default: return "Unknown";
  }
}

}  // namespace tiercel::server
