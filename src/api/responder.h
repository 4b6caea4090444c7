// Responder: the answer to one request, from the events of its engine streams to bytes.
//
//   streams → OutputAssembler, one a choice → AnswerWriter of the protocol → chunks, or a body
//
// Not thread-safe; the server calls it on the request's I/O thread. It never waits; a
// reader that is slow finds its deltas merged, and what they come to is told by pending_bytes().
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/answer.h"
#include "api/answer_writer.h"
#include "api/errors.h"

namespace tiercel::api {

class Responder {
 public:
  explicit Responder(ResponsePlan plan);
  Responder(const Responder&) = delete;

  const ResponsePlan& plan() const { return answer_.plan; }
  const Answer& answer() const { return answer_; }  // as far as it has come

  // Takes all that `stream`, which runs plan().prompts[prompt], has to give, and stops samples
  // whose stop string was found.
  void Consume(int prompt, engine::Stream* stream);

  // Every choice has ended, or one has failed.
  bool done() const { return error_.has_value() || answer_.finished(); }
  // The first failure, if there is one. Then the answer is an error.
  const std::optional<ApiError>& error() const { return error_; }

  // About what the events that are due now, or the body, would take.
  int64_t pending_bytes() const;

  // Events that a stream had so far, where they are numbered.
  int64_t num_events() const { return writer_->num_events(); }
  // stream: appends the events that are due now, at the end with usage and [DONE].
  void TakeEvents(std::string* out);
  // not stream, when done() and no error(): the whole body.
  std::string TakeBody() { return writer_->TakeBody(); }

 private:
  // What of a choice has been streamed.
  struct Written {
    bool began = false, ended = false;
  };

  void AddPrompt(int prompt);
  bool ChunkDue(int choice) const;

  Answer answer_;
  std::unique_ptr<AnswerWriter> writer_;
  std::vector<Written> written_;
  std::vector<engine::StreamEvent> events_;
  std::optional<ApiError> error_;
  bool began_ = false;
  bool ended_ = false;
};

// The event that tells a failure after the head of a streamed answer, and its end. `number`: of the event,
// where they are numbered.
std::string ErrorEvents(const ApiError& error, Protocol protocol, int64_t number);

}  // namespace tiercel::api
