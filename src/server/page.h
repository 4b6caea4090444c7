// Page: the built-in page at "/" (web/page.html, embedded into the program). It is one file without
// secrets, so it needs no key; what it shows comes through the routes, which do.
#pragma once

#include <string>
#include <string_view>

#include "server/http_server.h"

namespace tiercel::server {

extern const std::string_view kPageHtml;

// Thread-safe once made; no copy of `html` is kept, it outlives the page.
class Page {
 public:
  explicit Page(std::string_view html);

  // The whole page, or 304 where the client has it. `headers` are those of every answer.
  HttpReply Answer(const HttpRequest& request, HttpHeaders headers) const;

  // Content-Security-Policy: its own style and script by their hashes, its own server's address,
  // and nothing else.
  const std::string& policy() const { return policy_; }

 private:
  const std::string_view html_;
  const std::string policy_;
  const std::string etag_;
};

}  // namespace tiercel::server
