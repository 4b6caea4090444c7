// ResponseStore: the responses that are kept for later requests (VLLM_ENABLE_RESPONSES_API_STORE=1), in memory
// and within bounds. Where there is no room for a new one the oldest go; those that still run stay.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "api/response_events.h"
#include "base/status.h"

namespace tiercel::api {

// What goes on without a client. The store alone holds it: what drops it cancels it.
class ResponseRun {
 public:
  virtual ~ResponseRun() = default;
  // What is shown of it while it runs, and once it is cancelled. Any thread.
  virtual std::string Body() const = 0;
  virtual std::string CancelledBody() const = 0;
  // About what it takes by now with its events, beside the input: room for CancelledBody() at least. Any thread; the
  // store calls it with its lock held.
  virtual size_t bytes() const = 0;
};

struct KeptResponse {
  std::string body;                          // as it is shown; empty while it runs
  std::shared_ptr<const std::string> input;  // JSON: the items that it answers, those of earlier responses first;
                                             // a run has it as well
  std::shared_ptr<ResponseRun> run;          // null: it has ended. Shared with the news that are on the way to it
  std::shared_ptr<const ResponseEvents> events;  // null: it cannot be streamed. Shared with those who read them

  bool ended() const { return run == nullptr; }
};

// Thread-safe. What drops a run must not hold a lock that ending a stream of the engine may need.
class ResponseStore {
 public:
  struct Bounds {
    size_t responses = 4096;
    size_t bytes = size_t{256} << 20;          // of all
    size_t response_bytes = size_t{16} << 20;  // of one
  };
  using Kept = std::shared_ptr<const KeptResponse>;  // whoever reads one may outlive its place here

  ResponseStore() : ResponseStore(Bounds()) {}
  explicit ResponseStore(Bounds bounds) : bounds_(bounds) {}

  // Keeps a new one, or in place of an ended one of that id. kInvalidArgument: it is too large, or one of that id
  // runs. kUnavailable: all the room is taken by those that run, or the store is closed.
  Status Put(const std::string& id, KeptResponse response);
  // `run` has grown. False: there is no room for it.
  bool Grow(const std::string& id, const ResponseRun* run);
  // `run` has ended. False: there is no room for what is to be kept, and all is as before. True as well if it is
  // no longer here: it was cancelled or removed meanwhile.
  bool Finish(const std::string& id, const ResponseRun* run, std::string body,
              std::shared_ptr<const ResponseEvents> events);
  Kept Find(const std::string& id) const;  // null: there is none
  // Ends one that runs; what is shown of it from now on. Null: it does not run.
  Kept Cancel(const std::string& id);
  bool Remove(const std::string& id);  // ends it if it runs
  void Close();                        // removes all, and keeps nothing more

  const Bounds& bounds() const { return bounds_; }
  std::pair<size_t, size_t> size() const;  // responses, bytes

 private:
  struct Entry {
    std::string id;
    Kept kept;
    size_t bytes;
  };
  using Place = std::list<Entry>::iterator;

  // With the lock held.
  Place PlaceOf(const std::string& id);                             // the end: there is none
  Place PlaceOfRun(const std::string& id, const ResponseRun* run);  // as above
  Kept Erase(Place place);
  // Whether there is room for `bytes` more, beside `number` more responses; oldest ended ones are removed for it,
  // but for `spared`.
  bool MakeRoom(size_t bytes, size_t number, Place spared);
  bool Resize(Place place, size_t bytes);

  const Bounds bounds_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // the oldest first
  std::unordered_map<std::string, Place> places_;
  size_t bytes_ = 0;
  bool closed_ = false;
};

}  // namespace tiercel::api
