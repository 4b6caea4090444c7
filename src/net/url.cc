#include "net/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "base/ascii_case.h"

namespace tiercel::net {
namespace {

// Longer ones than servers take.
constexpr size_t kMaxUrlBytes = 16 << 10;

using Handle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

// The part of `handle`, empty if there is none.
std::string Part(CURLU* handle, CURLUPart part, unsigned int flags = 0) {
  char* text = nullptr;
  if (curl_url_get(handle, part, &text, flags) != CURLUE_OK) return "";
  const std::unique_ptr<char, decltype(&curl_free)> owner(text, &curl_free);
  return text;
}

// Reads `text`, which may be relative to what `handle` holds.
Expected<Url> Read(CURLU* handle, std::string_view text) {
  const auto bad = [&](const char* why) {
    return Unexpected(InvalidArgument("URL {}: {}", text.substr(0, 300), why));
  };
  if (text.size() > kMaxUrlBytes) return bad("is too long");
  if (std::any_of(text.begin(), text.end(),
                  [](unsigned char c) { return c <= 0x20 || c == 0x7f || c == '\\'; })) {
    return bad("blanks, control characters and backslashes are not allowed");
  }
  if (curl_url_set(handle, CURLUPART_URL, std::string(text).c_str(), CURLU_DISALLOW_USER) !=
      CURLUE_OK) {
    return bad("expected http://host[:port]/path or https://…, without a user name");
  }
  Url url;
  url.scheme = Part(handle, CURLUPART_SCHEME);
  if (url.scheme != "http" && url.scheme != "https") return bad("expected http:// or https://");
  url.host = LowerCase(Part(handle, CURLUPART_HOST));
  if (url.host.empty()) return bad("the host is missing");
  url.port = Part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  url.target = Part(handle, CURLUPART_PATH);
  if (url.target.empty()) url.target.assign(1, '/');
  if (const std::string query = Part(handle, CURLUPART_QUERY); !query.empty()) {
    url.target += "?" + query;
  }
  return url;
}

}  // namespace

Expected<Url> Url::Parse(std::string_view text) {
  const Handle handle(curl_url(), &curl_url_cleanup);
  return Read(handle.get(), text);
}

Expected<Url> Url::Resolve(std::string_view reference) const {
  const Handle handle(curl_url(), &curl_url_cleanup);
  RETURN_IF_ERROR([&]() -> Status {
    const auto base = Read(handle.get(), Text());
    return base ? OkStatus() : base.error();
  }());
  return Read(handle.get(), reference);
}

std::string Url::Origin() const { return fmt::format("{}://{}:{}", scheme, host, port); }

bool Url::IsLoopback() const {
  return host == "localhost" || host == "[::1]" ||
         (host.starts_with("127.") && host.find_first_not_of("0123456789.") == host.npos);
}

}  // namespace tiercel::net
