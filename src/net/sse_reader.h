// SseReader: a text/event-stream, event by event.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace tiercel::net {

// Cuts a text/event-stream into events, wherever the pieces were cut; \n, \r\n and \r end lines.
class SseReader {
 public:
  // `on_event`(event name or "", data). False stops; then Feed returns false.
  using OnEvent = std::function<bool(std::string_view event, std::string_view data)>;
  // Of one line, and of one event's data. An event of ours is a few KiB.
  static constexpr size_t kMaxEventBytes = 16 << 20;

  explicit SseReader(OnEvent on_event, size_t max_event_bytes = kMaxEventBytes)
      : on_event_(std::move(on_event)), max_event_bytes_(max_event_bytes) {}
  bool Feed(std::string_view piece);
  // Whether Feed stopped because a line or an event was larger than that.
  bool too_large() const { return too_large_; }

 private:
  bool TakeLine(std::string_view line);

  OnEvent on_event_;
  const size_t max_event_bytes_;
  bool too_large_ = false;
  std::string line_, event_, data_;
  bool has_data_ = false;
  bool skip_newline_ = false;  // the \n of a \r\n that was cut between two pieces
};

}  // namespace tiercel::net
