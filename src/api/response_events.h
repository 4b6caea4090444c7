// ResponseEvents: the events of a response that runs in the background, for those who watch it, now or later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::api {

// Thread-safe. The i-th event has the sequence_number i.
class ResponseEvents {
 public:
  class Watcher {
   public:
    virtual ~Watcher() = default;
    // There is more to read, or the end. On the writer's thread.
    virtual void OnMore() = 0;
  };

  // Whole events, each with the empty line behind it. They are there to be read with the next Show or Close.
  void Append(std::string_view events);
  void Show();
  void Close();          // no more come
  size_t bytes() const;  // about what all of them take

  // From now on it is told of what comes, as long as it is there.
  void Watch(std::weak_ptr<Watcher> watcher) const;
  // Appends events to *out, from number *next on, until there are no more or *out has `most` bytes, and moves
  // *next on. False: all have been read, and no more come.
  bool Read(size_t most, int64_t* next, std::string* out) const;

 private:
  void ShowAll(bool close);

  mutable std::mutex mutex_;
  std::vector<std::string> events_;
  size_t num_shown_ = 0;
  size_t bytes_ = 0;
  bool closed_ = false;
  mutable std::vector<std::weak_ptr<Watcher>> watchers_;
};

}  // namespace tiercel::api
