#include "net/sse_reader.h"

#include <algorithm>

namespace tiercel::net {

bool SseReader::Feed(std::string_view piece) {
  while (!piece.empty()) {
    if (skip_newline_) {
      skip_newline_ = false;
      if (piece.front() == '\n') piece.remove_prefix(1);
      continue;
    }
    const size_t end = piece.find_first_of("\r\n");
    too_large_ = line_.size() + std::min(end, piece.size()) > max_event_bytes_;
    if (too_large_) return false;
    if (end == std::string_view::npos) {
      line_ += piece;
      return true;
    }
    line_ += piece.substr(0, end);
    skip_newline_ = piece[end] == '\r';
    piece.remove_prefix(end + 1);
    const std::string line = std::move(line_);
    line_.clear();
    if (!TakeLine(line)) return false;
  }
  return true;
}

bool SseReader::TakeLine(std::string_view line) {
  if (line.empty()) {
    // A blank line ends an event; one without data is none.
    bool go_on = true;
    if (has_data_) go_on = on_event_(event_, data_);
    event_.clear();
    data_.clear();
    has_data_ = false;
    return go_on;
  }
  if (line.front() == ':') return true;  // a comment
  const size_t colon = line.find(':');
  const std::string_view field = line.substr(0, colon);
  std::string_view value;
  if (colon != std::string_view::npos) value = line.substr(colon + 1);
  if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (field == "data") {
    too_large_ = data_.size() + value.size() + 1 > max_event_bytes_;
    if (too_large_) return false;
    if (has_data_) data_ += '\n';
    data_ += value;
    has_data_ = true;
  } else if (field == "event") {
    event_ = value;
  }
  return true;
}

}  // namespace tiercel::net
