#include "server/http_request_parser.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>
#include <limits>

#include "base/ascii_case.h"

namespace tiercel::server {

namespace {

namespace http = boost::beast::http;

// Hexadecimal digits of a chunk's size: leading zeros are no way to send for ever.
constexpr int kMaxSizeDigits = 16;

bool IsDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](char c) { return c >= '0' && c <= '9'; });
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Neither a line end nor another control character but the tab.
bool IsText(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte >= 0x20 && byte != 0x7f) || c == '\t';
}

bool IsLineEnd(char c) { return c == '\r' || c == '\n'; }

std::string Text(boost::beast::string_view view) { return std::string(view.data(), view.size()); }

}  // namespace

RequestParser::RequestParser(const Limits& limits, std::shared_ptr<ByteBudget> budget)
    : limits_(limits), budget_(std::move(budget)), head_(budget_) {}

size_t RequestParser::Feed(std::string_view data) {
  switch (state_) {
    case State::kStart:
    case State::kHead:
      return FeedHead(data);
    case State::kBody:
      return is_chunked_ ? FeedChunked(data) : FeedSized(data);
    case State::kDone:
    case State::kBad:
      return 0;
  }
  return 0;
}

std::optional<int64_t> RequestParser::body_left() const {
  if (is_chunked_) return std::nullopt;
  return body_left_;
}

void RequestParser::DiscardBody() {
  discard_body_ = true;
  request_.body.Clear();
}

void RequestParser::Fail(int status, std::string_view message) {
  if (state_ == State::kBad) return;  // the first fault counts
  state_ = State::kBad;
  error_ = {status, message};
}

void RequestParser::CountFrame() {
  if (++frame_bytes_ <= limits_.frame_bytes) return;
  Fail(431, has_head_ ? "The request's chunk extensions and trailers are too large."
                      : "The request's headers are too large.");
}

// ---- head

size_t RequestParser::FeedHead(std::string_view data) {
  size_t used = 0;
  // Some clients end a body with an empty line that does not belong to it.
  for (; state_ == State::kStart && used < data.size(); ++used) {
    if (!IsLineEnd(data[used])) {
      state_ = State::kHead;
      break;
    }
    CountFrame();
  }
  const size_t begin = used;
  for (; state_ == State::kHead && used < data.size() && line_end_ < 4; ++used) {
    const char c = data[used];
    CountFrame();
    // Lines end with CR LF and with nothing else, and none goes on in the next one.
    const bool after_return = line_end_ == 1 || line_end_ == 3;
    if (after_return != (c == '\n') || (line_end_ == 2 && (c == ' ' || c == '\t')) ||
        (!IsText(c) && !IsLineEnd(c))) {
      FailSyntax();
    }
    line_end_ = IsLineEnd(c) ? line_end_ + 1 : 0;
  }
  if (state_ != State::kHead) return used;
  const std::string_view piece = data.substr(begin, used - begin);
  if (!head_.Append(piece, static_cast<size_t>(limits_.frame_bytes))) {
    Fail(503, kNoRoom);
  } else if (line_end_ == 4) {
    ParseHead(head_.text());
    head_.Clear();
  }
  return used;
}

void RequestParser::ParseHead(std::string_view head) {
  http::request_parser<http::empty_body> parser;
  parser.header_limit(std::numeric_limits<uint32_t>::max());
  // Not `none`, which Boost 1.74 takes for less than every length.
  parser.body_limit(std::numeric_limits<uint64_t>::max());
  boost::system::error_code error;
  parser.put(boost::asio::buffer(head), error);
  if (error || !parser.is_header_done()) return FailSyntax();
  const auto& message = parser.get();
  if (std::distance(message.begin(), message.end()) > limits_.header_count) {
    return Fail(431, "The request has too many headers.");
  }
  request_.method = Text(message.method_string());
  request_.target = Text(message.target());
  request_.path = PathOf(request_.target);
  int transfer_encodings = 0, content_lengths = 0;
  for (const auto& field : message) {
    transfer_encodings += field.name() == http::field::transfer_encoding ? 1 : 0;
    content_lengths += field.name() == http::field::content_length ? 1 : 0;
    request_.headers.emplace_back(Text(field.name_string()), Text(field.value()));
  }
  request_.body = BudgetedText(budget_);
  keep_alive_ = message.keep_alive();
  is_http_1_0_ = message.version() < 11;
  expects_continue_ = !is_http_1_0_ && EqualsNoCase(request_.Header("Expect"), "100-continue");
  has_head_ = true;
  SetFraming(transfer_encodings, content_lengths);
}

void RequestParser::SetFraming(int transfer_encodings, int content_lengths) {
  state_ = State::kBody;
  if (transfer_encodings > 0) {
    if (transfer_encodings > 1 || content_lengths > 0 || is_http_1_0_ ||
        !EqualsNoCase(request_.Header("Transfer-Encoding"), "chunked")) {
      return Fail(400, "Transfer-Encoding must be 'chunked', without Content-Length.");
    }
    is_chunked_ = true;
    return;
  }
  if (content_lengths > 0) {
    const std::string_view length = request_.Header("Content-Length");
    constexpr size_t kMaxDigits = std::numeric_limits<int64_t>::digits10;
    if (content_lengths > 1 || !IsDigits(length) || length.size() > kMaxDigits) {
      return Fail(400, "Content-Length must be one number of bytes.");
    }
    for (const char c : length) body_left_ = body_left_ * 10 + (c - '0');
  }
  if (body_left_ == 0) state_ = State::kDone;
}

// ---- body

void RequestParser::Store(std::string_view piece) {
  const int64_t most = is_chunked_ ? limits_.body_bytes : request_.body_bytes + body_left_;
  request_.body_bytes += static_cast<int64_t>(piece.size());
  if (discard_body_) return;
  if (!request_.body.Append(piece, static_cast<size_t>(most))) Fail(503, kNoRoom);
}

size_t RequestParser::FeedSized(std::string_view data) {
  if (!discard_body_ && request_.body_bytes + body_left_ > limits_.body_bytes) {
    Fail(413, kTooLarge);
    return 0;
  }
  const std::string_view piece = data.substr(0, static_cast<size_t>(body_left_));
  Store(piece);
  body_left_ -= static_cast<int64_t>(piece.size());
  if (body_left_ == 0 && state_ != State::kBad) state_ = State::kDone;
  return piece.size();
}

size_t RequestParser::FeedChunked(std::string_view data) {
  size_t used = 0;
  while (used < data.size() && state_ == State::kBody) {
    if (chunk_state_ != ChunkState::kData) {
      StepChunk(data[used++]);
      continue;
    }
    const std::string_view piece = data.substr(used, static_cast<size_t>(body_left_));
    Store(piece);
    used += piece.size();
    body_left_ -= static_cast<int64_t>(piece.size());
    if (body_left_ == 0) chunk_state_ = ChunkState::kDataReturn;
  }
  return used;
}

// One byte of a chunked body that is no data.
void RequestParser::StepChunk(char c) {
  const auto expect = [&](char wanted, ChunkState next) {
    c == wanted ? void(chunk_state_ = next) : FailSyntax();
  };
  switch (chunk_state_) {
    case ChunkState::kSize:
      return StepSize(c);
    case ChunkState::kExtension:
    case ChunkState::kTrailer:
      CountFrame();
      if (c == '\r') {
        chunk_state_ = chunk_state_ == ChunkState::kTrailer ? ChunkState::kTrailerLineEnd
                                                            : ChunkState::kSizeLineEnd;
      } else if (!IsText(c)) {
        FailSyntax();
      }
      return;
    case ChunkState::kSizeLineEnd:
      return c == '\n' ? EndSizeLine() : FailSyntax();
    case ChunkState::kDataReturn:
      return expect('\r', ChunkState::kDataLineEnd);
    case ChunkState::kDataLineEnd:
      size_digits_ = 0;
      chunk_size_ = 0;
      return expect('\n', ChunkState::kSize);
    case ChunkState::kTrailerStart:
      CountFrame();
      if (c == '\r') {
        chunk_state_ = ChunkState::kLastLineEnd;
      } else if (!IsText(c) || c == ' ' || c == '\t') {
        FailSyntax();
      } else {
        chunk_state_ = ChunkState::kTrailer;
      }
      return;
    case ChunkState::kTrailerLineEnd:
      return expect('\n', ChunkState::kTrailerStart);
    case ChunkState::kLastLineEnd:
      return c == '\n' ? void(state_ = State::kDone) : FailSyntax();
    case ChunkState::kData:
      return;
  }
}

void RequestParser::StepSize(char c) {
  if (const int digit = HexDigit(c); digit >= 0) {
    if (++size_digits_ > kMaxSizeDigits ||
        chunk_size_ > (std::numeric_limits<int64_t>::max() >> 4)) {
      return FailSyntax();
    }
    chunk_size_ = chunk_size_ * 16 + digit;
  } else if (size_digits_ > 0 && c == '\r') {
    chunk_state_ = ChunkState::kSizeLineEnd;
  } else if (size_digits_ > 0 && c == ';') {
    chunk_state_ = ChunkState::kExtension;
  } else {
    FailSyntax();
  }
}

void RequestParser::EndSizeLine() {
  if (chunk_size_ == 0) {
    chunk_state_ = ChunkState::kTrailerStart;
    return;
  }
  if (chunk_size_ > limits_.body_bytes - request_.body_bytes) return Fail(413, kTooLarge);
  body_left_ = chunk_size_;
  chunk_state_ = ChunkState::kData;
}

}  // namespace tiercel::server
