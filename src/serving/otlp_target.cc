#include "serving/otlp_target.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "base/percent_encoding.h"
#include "base/split.h"
#include "net/url.h"

namespace tiercel::serving {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

constexpr const char* kEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// A list in the form of W3C's Baggage: name=value,name=value, percent-encoded. Values may be secrets.
Expected<Pairs> ReadPairs(const Environ& environ, std::string_view variable) {
  const std::string value = EnvValue(environ, variable);
  Pairs pairs;
  for (const std::string_view part : Split(value, ',')) {
    const std::string_view item = Trim(part);
    if (item.empty()) continue;
    const size_t equals = item.find('=');
    const std::string_view name = Trim(item.substr(0, equals));
    const bool is_name = std::all_of(name.begin(), name.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 || std::string_view("-_.").find(static_cast<char>(c)) != std::string_view::npos;
    });
    if (equals == std::string_view::npos || name.empty() || !is_name) {
      return Unexpected(InvalidArgument("{}: entry {}: expected name=value,name=value, percent-encoded",
                                        variable, pairs.size() + 1));
    }
    std::string decoded = PercentDecoded(Trim(item.substr(equals + 1)));
    if (std::any_of(decoded.begin(), decoded.end(),
                    [](unsigned char c) { return c < 0x20 || c == 0x7f; })) {
      return Unexpected(InvalidArgument("{}: the value of {}: found a control character", variable, name));
    }
    pairs.emplace_back(name, std::move(decoded));
  }
  return pairs;
}

// What to give instead of an address that speaks gRPC; nothing: it does not say so.
std::optional<std::string> HttpInsteadOfGrpc(const std::string& endpoint) {
  const size_t colon = endpoint.find("://");
  const std::string scheme = colon == std::string::npos ? "" : endpoint.substr(0, colon);
  const auto url = net::Url::Parse("http://" + (colon == std::string::npos ? endpoint
                                                                           : endpoint.substr(colon + 3)));
  const bool is_http = scheme == "http" || scheme == "https";
  if (is_http && (!url || url->port != "4317")) return std::nullopt;
  if (!scheme.empty() && !is_http && !scheme.starts_with("grpc")) return std::nullopt;
  return fmt::format("{}://{}:4318/v1/traces", scheme == "https" || scheme == "grpcs" ? "https" : "http",
                     url && !url->host.empty() ? url->host : "HOST");
}

// As given, with the path of OTLP over HTTP where it has none.
Expected<std::string> TracesUrl(const std::string& endpoint) {
  auto url = net::Url::Parse(endpoint);
  if (!url) return Unexpected(url.error());
  if (url->target == "/") url->target = "/v1/traces";
  return url->Text();
}

// The service's name and what else is said of the process that sends spans.
Expected<Pairs> ReadResource(const Environ& environ) {
  ASSIGN_OR_RETURN(Pairs pairs, ReadPairs(environ, "OTEL_RESOURCE_ATTRIBUTES"));
  const auto is_name = [](const auto& pair) { return pair.first == "service.name"; };
  const std::string name = EnvValue(environ, "OTEL_SERVICE_NAME");
  if (!name.empty()) std::erase_if(pairs, is_name);
  if (std::none_of(pairs.begin(), pairs.end(), is_name)) {
    pairs.emplace_back("service.name", name.empty() ? "unknown_service:tiercel" : name);
  }
  return pairs;
}

}  // namespace

Expected<std::optional<OtlpTarget>> ReadOtlpTarget(const std::string& flag, const Environ& environ,
                                                   std::vector<std::string>* warnings) {
  const std::string endpoint = flag.empty() ? EnvValue(environ, kEndpoint) : flag;
  if (endpoint.empty()) return std::nullopt;
  if (const auto instead = HttpInsteadOfGrpc(endpoint)) {
    const std::string fault =
        fmt::format("found {}, an address of gRPC; spans are sent over HTTP, give {}", endpoint, *instead);
    if (!flag.empty()) return Unexpected(InvalidArgument("argument --otlp-traces-endpoint: {}", fault));
    warnings->push_back(fmt::format("{}: {}. No traces are sent.", kEndpoint, fault));
    return std::nullopt;
  }
  OtlpTarget target;
  auto url = TracesUrl(endpoint);
  if (!url) {
    return Unexpected(InvalidArgument("{}: {}", flag.empty() ? kEndpoint : "argument --otlp-traces-endpoint",
                                      url.error().message()));
  }
  target.url = std::move(*url);
  const bool has_own = !EnvValue(environ, "OTEL_EXPORTER_OTLP_TRACES_HEADERS").empty();
  ASSIGN_OR_RETURN(target.headers, ReadPairs(environ, has_own ? "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
                                                              : "OTEL_EXPORTER_OTLP_HEADERS"));
  ASSIGN_OR_RETURN(target.resource, ReadResource(environ));
  return target;
}

}  // namespace tiercel::serving
