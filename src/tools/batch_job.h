// BatchJob: runs the lines of an OpenAI batch file on an engine in this process.
//
//   line → BatchLine → prepare → engine streams → Responder → the answer's line, in the input's order
//
// One thread reads, prepares and writes; some requests more than run at once are in the engine, so that
// it always has work, and never so many that their prompts fill the memory.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/endpoints.h"
#include "api/responder.h"
#include "base/status.h"
#include "server/loaded_model.h"

namespace tiercel::tools {

// One request of the file: {"custom_id": …, "method": "POST", "url": "/v1/…", "body": {…}}.
struct BatchLine {
  std::string custom_id;
  const api::Endpoint* endpoint = nullptr;
  std::string body;
};

// What is wrong with a line is its answer.
api::Result<BatchLine> ReadBatchLine(std::string_view text, std::string* custom_id);

class BatchJob {
 public:
  // The next line of the input without its end; nullopt: there is none.
  using Source = std::function<Expected<std::optional<std::string>>()>;
  // Takes the answer of the next line, with its end.
  using Sink = std::function<Status(const std::string& line)>;
  struct Counts {
    int64_t done = 0, failed = 0;
  };

  // fingerprint: the answers' system_fingerprint.
  BatchJob(std::shared_ptr<const server::LoadedModel> model, std::string fingerprint);
  ~BatchJob();  // cancels what runs

  // Until every line has its answer. kCancelled: `stop` was set (look again after Wake). kInternal: the
  // engine has failed.
  Status Run(const Source& next, const Sink& write, const std::atomic<bool>& stop,
             const std::function<void(const Counts&)>& progress);
  void Wake();  // any thread

 private:
  struct Request;

  Status StartNext(const Source& next);
  // False: the engine takes no more for now.
  bool Start(int64_t index, const BatchLine& line);
  void Answer(int64_t index, const std::string& custom_id, int status, const std::string& body);
  void TakeNews(const std::atomic<bool>& stop);
  Status WriteReady(const Sink& write);

  const std::shared_ptr<const server::LoadedModel> model_;
  const std::string fingerprint_;
  const size_t max_running_;
  std::map<int64_t, std::string> ready_;                 // answers that wait for those before them
  std::optional<BatchLine> refused_;                     // for now; the line `num_read_`
  bool at_end_ = false;
  int64_t num_read_ = 0, num_written_ = 0;
  Counts counts_;

  // What the engine thread says.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int64_t> news_;
  bool woken_ = false;

  std::map<int64_t, std::unique_ptr<Request>> running_;  // by the line's number; last: its streams say news
};

}  // namespace tiercel::tools
