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
  // A search of many requests, one after the other: it is let in with its first one, and from then on runs, also between two
  // of them, until it ends. What aborts all requests ends all searches.
  class Search;
  Status SubmitOfSearch(std::unique_ptr<ActiveRequest> request, const Search& search);
  // The reader's, which never fail: it wants one sample to stop; it goes, which cancels what is
  // unfinished. After the end of the engine, and if the request was refused, they mean nothing.
  void StopSample(const std::shared_ptr<StreamState>& stream, int index);
  void Leave(const std::shared_ptr<StreamState>& stream, bool finished);

  // The server's.
  bool ResetPrefixCache(std::promise<bool>* answer);  // false if closed: no answer comes
  // Refuses requests until WakeUp; the answer comes when nothing runs any more: true, or false if WakeUp came before. False if
  // closed.
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
    // Those that asked for sleep before all others of these orders need it no more: `woken`, and all of earlier orders.
    std::vector<std::promise<bool>*> woken;
    bool wake = false;
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
  bool has_searches() const { return num_searches_.load(std::memory_order_acquire) > 0; }
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
  void LetIn(std::unique_ptr<ActiveRequest> request);
  void AbortAll(Orders* orders);
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
  std::atomic<int64_t> num_searches_{0};
  int64_t num_aborts_ = 0;  // of all that ran
  int64_t logprob_entries_ = 0;
  Rejected num_rejected_;
  bool woken_ = false;
  bool draining_ = false;
  bool sleeping_ = false;
  bool closed_ = false;
};

// Runs from the call of Begin until its end.
class Inbox::Search {
 public:
  explicit Search(std::shared_ptr<Inbox> inbox) : inbox_(std::move(inbox)) {}
  Search(const Search&) = delete;
  Search& operator=(const Search&) = delete;
  ~Search();

  void Begin();
  bool begun() const { return begun_; }

 private:
  friend class Inbox;

  const std::shared_ptr<Inbox> inbox_;
  bool begun_ = false;
  int64_t aborts_ = 0;  // before it began
};

}  // namespace tiercel::engine
