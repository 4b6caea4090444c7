#include "server/page.h"

#include <openssl/evp.h>

#include <array>

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

// What stands in the page's only element of that name, without attributes.
std::string_view ElementText(std::string_view html, std::string_view name) {
  const std::string open = fmt::format("<{}>", name);
  const size_t begin = html.find(open);
  CHECK(begin != std::string_view::npos);
  html.remove_prefix(begin + open.size());
  return html.substr(0, html.find(fmt::format("</{}>", name)));
}

std::string Policy(std::string_view html) {
  return fmt::format(
      "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; "
      "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
      "require-trusted-types-for 'script'; trusted-types 'none'",
      Digest(ElementText(html, "script")), Digest(ElementText(html, "style")));
}

}  // namespace

Page::Page(std::string_view html)
    : html_(html), policy_(Policy(html)), etag_(fmt::format("\"{}\"", Digest(html))) {}

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
  return {200, "text/html; charset=utf-8", std::string(html_), std::move(headers)};
}

}  // namespace tiercel::server
