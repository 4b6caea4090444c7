// SseReader: a text/event-stream, event by event.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace tiercel::server {

// Cuts a text/event-stream into events, wherever the pieces were cut; \n, \r\n and \r end lines.
class SseReader {
 public:
  // `on_event`(event name or "", data). False stops; then Feed returns false.
  using OnEvent = std::function<bool(std::string_view event, std::string_view data)>;
  explicit SseReader(OnEvent on_event) : on_event_(std::move(on_event)) {}
  bool Feed(std::string_view piece);

 private:
  bool TakeLine(std::string_view line);

  OnEvent on_event_;
  std::string line_, event_, data_;
  bool has_data_ = false;
  bool skip_newline_ = false;  // the \n of a \r\n that was cut between two pieces
};

}  // namespace tiercel::server
