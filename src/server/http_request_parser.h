// RequestParser: one HTTP/1 request from the bytes of its connection. No sockets.
//
// The head is read by the HTTP library once all of it is there; the body's framing is read here,
// and strictly: what two programs could read in two ways (RFC 9112, sections 6 and 11.2) is refused.
// All that is no body is bounded together: the head, extensions of chunks, trailers, empty lines
// before the request.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/byte_budget.h"
#include "server/http_server.h"

namespace tiercel::server {

class RequestParser {
 public:
  struct Limits {
    int64_t frame_bytes = 64 << 10;  // all that is no body
    int header_count = 256;
    int64_t body_bytes = int64_t{64} << 20;
  };
  enum class State {
    kStart,  // nothing has come but empty lines
    kHead,
    kBody,
    kDone,
    kBad,  // error() tells why; where the next request begins is not known
  };
  struct Error {
    int status;
    std::string_view message;
  };

  RequestParser(const Limits& limits, std::shared_ptr<ByteBudget> budget);

  // Takes from the front of `data` what belongs to the request and returns how much that was.
  // Returns once in kBody before it has taken any of the body.
  size_t Feed(std::string_view data);

  State state() const { return state_; }
  const Error& error() const { return error_; }

  // From here on: once the head has been read.
  bool has_head() const { return has_head_; }
  // With the body in kDone.
  HttpRequest& request() { return request_; }
  bool keep_alive() const { return keep_alive_; }
  bool is_http_1_0() const { return is_http_1_0_; }
  bool expects_continue() const { return expects_continue_; }
  // What is still to come of the body; nullopt in a chunked one.
  std::optional<int64_t> body_left() const;
  // What comes of the body from now on is read and forgotten.
  void DiscardBody();
  bool discards_body() const { return discard_body_; }

 private:
  enum class ChunkState {
    kSize, kExtension, kSizeLineEnd, kData, kDataReturn, kDataLineEnd,
    kTrailerStart, kTrailer, kTrailerLineEnd, kLastLineEnd
  };

  static constexpr std::string_view kTooLarge = "The request's body is too large.";
  static constexpr std::string_view kNoRoom =
      "The server holds as many bytes of requests as it may; try again in a moment.";

  size_t FeedHead(std::string_view data);
  size_t FeedSized(std::string_view data);
  size_t FeedChunked(std::string_view data);
  void ParseHead(std::string_view head);
  void SetFraming(int transfer_encodings, int content_lengths);
  void StepChunk(char c);
  void StepSize(char c);
  void EndSizeLine();
  void CountFrame();  // one byte
  void Store(std::string_view piece);
  void Fail(int status, std::string_view message);
  void FailSyntax() { Fail(400, "Invalid HTTP request received."); }

  const Limits limits_;
  const std::shared_ptr<ByteBudget> budget_;
  State state_ = State::kStart;
  Error error_{0, {}};
  int64_t frame_bytes_ = 0;
  BudgetedText head_;  // as far as it has come
  int line_end_ = 0;   // how much of CR LF CR LF it ends with
  HttpRequest request_;
  bool has_head_ = false;
  bool keep_alive_ = false;
  bool is_http_1_0_ = false;
  bool expects_continue_ = false;
  bool discard_body_ = false;
  bool is_chunked_ = false;
  int64_t body_left_ = 0;  // of a body with Content-Length, or of the chunk
  ChunkState chunk_state_ = ChunkState::kSize;
  int64_t chunk_size_ = 0;
  int size_digits_ = 0;
};

}  // namespace tiercel::server
