#include "server/page.h"

#include <openssl/evp.h>

#include <array>
#include <optional>
#include <utility>

#include "api/base64.h"
#include "base/check.h"

namespace tiercel::server {

namespace {

// Base64 of SHA-256.
std::string Digest(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash;
  unsigned size = 0;
  CHECK(EVP_Digest(text.data(), text.size(), hash.data(), &size, EVP_sha256(), nullptr) == 1);
  std::string base64;
  api::AppendBase64({reinterpret_cast<const char*>(hash.data()), size}, &base64);
  return base64;
}

// What stands in the page's only element of that name, without attributes; nullopt if there is none.
std::optional<std::string_view> ElementText(std::string_view html, std::string_view name) {
  const std::string open = fmt::format("<{}>", name);
  const size_t begin = html.find(open);
  if (begin == std::string_view::npos) return std::nullopt;
  html.remove_prefix(begin + open.size());
  return html.substr(0, html.find(fmt::format("</{}>", name)));
}

std::string Policy(std::string_view html) {
  std::string policy =
      "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
      "require-trusted-types-for 'script'; trusted-types 'none'";
  if (const auto style = ElementText(html, "style")) policy += fmt::format("; style-src 'sha256-{}'", Digest(*style));
  if (const auto script = ElementText(html, "script")) {
    policy += fmt::format("; script-src 'sha256-{}'; connect-src 'self'", Digest(*script));
  }
  return policy;
}

}  // namespace

Page::Page(std::string html)
    : html_(std::move(html)), policy_(Policy(html_)), etag_(fmt::format("\"{}\"", Digest(html_))) {}

HttpReply Page::Answer(const HttpRequest& request, HttpHeaders headers) const {
  headers.emplace_back("ETag", etag_);
  headers.emplace_back("Cache-Control", "no-cache");  // kept, and asked for each time
  headers.emplace_back("Content-Security-Policy", policy_);
  headers.emplace_back("X-Content-Type-Options", "nosniff");
  headers.emplace_back("Referrer-Policy", "no-referrer");
  // A list of tags, some marked W/ by a proxy on the way: a digest in quotes is found in no other.
  const std::string_view known = request.Header("If-None-Match");
  if (known == "*" || known.find(etag_) != std::string_view::npos) {
    return {304, "", "", std::move(headers)};
  }
  return {200, "text/html; charset=utf-8", html_, std::move(headers)};
}

}  // namespace tiercel::server
