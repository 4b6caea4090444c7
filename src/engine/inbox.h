// Inbox: how any thread tells the engine thread what to do. Outlives the engine as long as a
// Stream holds it; once closed, everything is refused.
#pragma once

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <vector>

#include "base/status.h"
#include "engine/active_request.h"

namespace tiercel::engine {

struct Message {
  enum class Kind { kSubmit, kCancel, kStopSample, kResetPrefixCache, kAbortAll, kDrain, kShutDown };
  Kind kind = Kind::kSubmit;
  std::unique_ptr<ActiveRequest> request;  // kSubmit
  std::shared_ptr<StreamState> stream;     // kCancel, kStopSample
  int index = 0;                           // kStopSample
  std::promise<bool>* answer = nullptr;    // kResetPrefixCache
};

class Inbox {
 public:
  Inbox(int64_t max_queued_requests, int64_t max_queued_tokens);  // 0: no limit

  // Refuses while draining or closed, and when the queue is full.
  Status Submit(std::unique_ptr<ActiveRequest> request);
  bool Post(Message message);  // false if closed

  // Engine thread: takes all messages, in order. Waits until there is one, for at most so many
  // seconds (infinity: for ever), or until Wake.
  void Take(double seconds, std::vector<Message>* messages);
  // Ends a Take that waits, or the next one's wait. Any thread.
  void Wake();
  // Engine thread: a request left the queue, by its first step or by its end.
  void Unqueue(int64_t num_tokens);

  void StopSubmissions();
  void Close(std::vector<Message>* rest);

  int64_t num_pending_sequences() const;  // submitted, not yet taken
  // Requests refused because a queue was full, by the limit that they met.
  struct Rejected {
    uint64_t requests = 0, tokens = 0;
  };
  Rejected num_rejected() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Message> messages_;
  const int64_t max_queued_requests_;
  const int64_t max_queued_tokens_;
  int64_t queued_requests_ = 0;
  int64_t queued_tokens_ = 0;
  int64_t pending_sequences_ = 0;
  Rejected num_rejected_;
  bool woken_ = false;
  bool draining_ = false;
  bool closed_ = false;
};

}  // namespace tiercel::engine
