// Page: an HTML page that needs nothing but itself: the built-in one at "/" (web/page.html, embedded into the
// program) and the one of the routes. Both are without secrets, so they need no key; what the first one shows
// comes through the routes, which do.
#pragma once

#include <string>
#include <string_view>

#include "server/http_server.h"

namespace tiercel::server {

extern const std::string_view kPageHtml;

// Immutable.
class Page {
 public:
  explicit Page(std::string html);

  // The whole page, or 304 where the client has it. `headers` are those of every answer.
  HttpReply Answer(const HttpRequest& request, HttpHeaders headers) const;

  // Content-Security-Policy: its own style by its hash and, where it has one, its script, which may ask its own
  // server; nothing else.
  const std::string& policy() const { return policy_; }

 private:
  const std::string html_;
  const std::string policy_;
  const std::string etag_;
};

}  // namespace tiercel::server
