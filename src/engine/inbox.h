// Inbox: how any thread tells the engine thread what to do. Outlives the engine as long as a
// Stream holds it; once closed, everything is refused.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <vector>

#include "base/status.h"
#include "engine/active_request.h"

namespace tiercel::engine {

// What all requests together may take; 0: no limit.
struct InboxLimits {
  int64_t queued_requests = 0;
  int64_t queued_tokens = 0;
  int64_t logprob_entries = 0;
};

class Inbox {
 public:
  explicit Inbox(const InboxLimits& limits) : limits_(limits) {}

  // Refuses while draining or closed, and over the limits. The request counts as queued until
  // Unqueue, and its stream's logprob_entries until Leave.
  Status Submit(std::unique_ptr<ActiveRequest> request);
  // The reader's, which never fail: it wants one sample to stop; it goes, which cancels what is
  // unfinished. After the end of the engine, and if the request was refused, they mean nothing.
  void StopSample(const std::shared_ptr<StreamState>& stream, int index);
  void Leave(const std::shared_ptr<StreamState>& stream, bool finished);

  // The server's.
  bool ResetPrefixCache(std::promise<bool>* answer);  // false if closed: no answer comes
  // Refuses requests until WakeUp; the answer comes when nothing runs any more. False if closed.
  bool Sleep(bool abort, std::promise<bool>* answer);
  void WakeUp();
  bool sleeping() const;
  void AbortAll();
  bool Drain();  // false if closed
  void ShutDown();
  void StopSubmissions();

  // Engine thread. Wait returns when something has come, after at most so many seconds (infinity:
  // never), or by Wake, which any thread may call. Orders come before the requests that were let in
  // before them: take them first.
  struct Orders {
    std::vector<std::promise<bool>*> resets, sleeps;
    bool abort_all = false, drain = false, shut_down = false;
  };
  void Wait(double seconds);
  void Wake();
  Orders TakeOrders();
  std::unique_ptr<ActiveRequest> NextRequest();  // null: none
  // A stream whose reader wants sample *index to stop, or all of them to be canceled (kAllSamples);
  // null: none, or there are requests to take first: a wish may be for one of these.
  static constexpr int kAllSamples = -1;
  std::shared_ptr<StreamState> NextWish(int* index);
  // A request left the queue, by its first step or by its end.
  void Unqueue(int64_t num_tokens);
  // From now on everything is refused; what has come can still be taken.
  void Close();

  // Sequences that were let in since the start.
  int64_t num_submitted_sequences() const {
    return num_submitted_sequences_.load(std::memory_order_acquire);
  }
  // Requests refused because a queue was full, by the limit that they met.
  struct Rejected {
    uint64_t requests = 0, tokens = 0;
  };
  Rejected num_rejected() const;

 private:
  Status CheckLimits(const ActiveRequest& request);
  void AddWish(const std::shared_ptr<StreamState>& stream);
  template <typename F>
  bool Post(F&& set);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  const InboxLimits limits_;
  std::deque<std::unique_ptr<ActiveRequest>> requests_;
  StreamList wishes_;
  Orders orders_;
  bool has_orders_ = false;
  std::atomic<int64_t> queued_requests_{0}, queued_tokens_{0};
  std::atomic<int64_t> num_submitted_sequences_{0};
  int64_t logprob_entries_ = 0;
  Rejected num_rejected_;
  bool woken_ = false;
  bool draining_ = false;
  bool sleeping_ = false;
  bool closed_ = false;
};

}  // namespace tiercel::engine
