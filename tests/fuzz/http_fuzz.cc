// Any bytes as what a connection sends: read as one request after another, never a crash, within
// the bounds, and the same whichever way the bytes were cut.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "fuzz/one_line.h"
#include "server/http_request_parser.h"

namespace {

using tiercel::server::ByteBudget;
using tiercel::server::RequestParser;

constexpr RequestParser::Limits kLimits = {.frame_bytes = 600, .header_count = 8, .body_bytes = 10000};
constexpr int64_t kBudget = 6000;

// What a connection makes of `data`, given in pieces of up to `most` bytes.
std::string Read(std::string_view data, size_t most) {
  const auto budget = std::make_shared<ByteBudget>(kBudget);
  std::string seen;
  bool is_bad = false;
  while (!data.empty() && !is_bad) {
    RequestParser parser(kLimits, budget);
    while (parser.state() != RequestParser::State::kDone &&
           parser.state() != RequestParser::State::kBad && !data.empty()) {
      const bool had_head = parser.has_head();
      const std::string_view piece = data.substr(0, most);
      const size_t used = parser.Feed(piece);
      CHECK(used <= piece.size());
      // Only the first look at a body may take nothing.
      CHECK(used > 0 || !had_head || parser.state() == RequestParser::State::kBad);
      CHECK(budget->used() >= 0 && budget->used() <= kBudget);
      data.remove_prefix(used);
    }
    is_bad = parser.state() == RequestParser::State::kBad;
    if (is_bad) {
      tiercel::fuzz::ExpectOneLine(parser.error().message);
      // With little room left, how far a body came depends on how its memory grew.
      seen += parser.error().status == 503 ? "no room" : std::to_string(parser.error().status);
    } else if (parser.state() == RequestParser::State::kDone) {
      const auto& request = parser.request();
      CHECK(static_cast<int64_t>(request.body.size()) == request.body_bytes);
      CHECK(request.body_bytes <= kLimits.body_bytes);
      seen += request.method + " " + request.path + "\n";
      seen += request.body.text();
    }
  }
  CHECK(budget->used() == 0);
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string whole = Read(bytes, bytes.size() + 1);
  const std::string cut = Read(bytes, 1 + data[0] % 64u);
  // The budget may refuse one and not the other: a body's memory grows by the pieces that come.
  if (whole.ends_with("no room") || cut.ends_with("no room")) return 0;
  CHECK(whole == cut);
  return 0;
}
