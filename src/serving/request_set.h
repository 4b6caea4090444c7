// RequestSet: requests of one caller in an OfflineEngine.
//
//   Submit(endpoint, body) → number;  Wait → numbers with something new;  Take(number) → what is new
//
// Several threads may use it, one after the other; Submit, Wait and Take each take a lock. The engine's
// thread only leaves numbers behind, so it never waits for a reader.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/answer.h"
#include "api/errors.h"
#include "api/responder.h"
#include "serving/offline_engine.h"

namespace tiercel::serving {

// What one choice has grown by since it was taken last.
struct ChoiceNews {
  std::string text;
  std::vector<engine::OutputToken> tokens;
  std::optional<api::OutputFinish> finish;  // stays once it is there
};

struct RequestNews {
  bool done = false;
  std::vector<int32_t> prompt_token_ids;                // of the first prompt
  std::shared_ptr<const engine::PromptInfo> prompt_info;  // null: not computed yet
  std::vector<ChoiceNews> choices;                      // of a model that generates
  std::string body;                                     // of one that pools, when done: as a server answers
};

class RequestSet {
 public:
  explicit RequestSet(std::shared_ptr<const OfflineEngine> engine);
  ~RequestSet();  // cancels what runs
  RequestSet(const RequestSet&) = delete;

  // `path` is an endpoint's (api/endpoints.h), `body` its JSON with "stream" left out.
  api::Result<int64_t> Submit(std::string_view path, std::string_view body);

  // Waits for news, at most `seconds`, reads them and returns whose they are, each once.
  std::vector<int64_t> Wait(double seconds);
  // Reads news for `seconds`, or until every request has ended. Returns how many run. Not ok: the engine
  // has failed.
  Expected<int64_t> Run(double seconds);
  // A Wait under way, or the next one, returns without news of any request.
  void Wake();
  // Readable while there are news that Wait would not wait for. From the first call on; −1: no file is left.
  int EventFd();

  // The first failure of the request is its news. `number` was given by Submit and not dropped.
  api::Result<RequestNews> Take(int64_t number);
  void Drop(int64_t number);  // cancels it if it runs; unknown numbers are ignored

 private:
  struct Request;

  // Whether there are news, at the latest at `deadline` (of the steady clock).
  bool AwaitNews(double deadline);
  std::vector<int64_t> ReadNews();
  void Leave(int64_t number);

  const std::shared_ptr<const OfflineEngine> engine_;
  std::mutex mutex_;  // of what the callers' threads share
  int64_t num_submitted_ = 0, num_running_ = 0;

  struct Board;                          // what the engine's thread leaves behind
  const std::unique_ptr<Board> board_;
  std::map<int64_t, std::unique_ptr<Request>> requests_;  // goes first: its streams write on the board
};

}  // namespace tiercel::serving
