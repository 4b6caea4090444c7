// What `tiercel chat` and `tiercel complete` share: a running server's address, its model, and a
// streamed answer.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "api/json.h"
#include "base/status.h"
#include "net/http_client.h"
#include "options/option_parser.h"

namespace tiercel::tools {

using options::Effect;
using options::Kind;
using options::OptionSpec;
using options::ParsedOptions;

// --url, --model-name, --api-key; for both commands' tables.
extern const OptionSpec kClientOptions[3];

class ClientSession {
 public:
  // Asks /v1/models for the name unless one is given.
  static Expected<ClientSession> Connect(const ParsedOptions& options);

  const std::string& model() const { return model_; }

  // Posts `body` (with "stream": true) to url/`route` and passes every event's JSON on. Meanwhile Ctrl-C
  // ends the answer, with kCancelled, not the program.
  Status Stream(std::string_view route, const api::Json& body,
                const std::function<void(const api::Json&)>& on_event);

 private:
  Expected<api::Json> CheckAnswer(const Expected<net::HttpResponse>& response) const;

  std::string url_;
  std::string model_;
  net::HttpHeaders headers_;
};

// The text of choices[0].delta.content or choices[0].text; empty if there is none.
std::string_view DeltaText(const api::Json& event);

// Whether standard output is a terminal that takes colors (NO_COLOR is honored).
bool WantsColor();

}  // namespace tiercel::tools
