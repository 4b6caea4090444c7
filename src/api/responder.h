// Responder: the answer to one request, from the events of its engine streams to bytes.
//
// Not thread-safe; the server calls it on the request's I/O thread. It never waits; a
// reader that is slow finds its deltas merged, and what they come to is told by pending_bytes().
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/choice_writer.h"
#include "api/errors.h"
#include "api/response_plan.h"
#include "engine/engine.h"

namespace tiercel::api {

class Responder {
 public:
  explicit Responder(ResponsePlan plan);
  Responder(const Responder&) = delete;

  const ResponsePlan& plan() const { return plan_; }

  // Takes all that `stream`, which runs plan().prompts[prompt], has to give, and stops samples
  // whose stop string was found.
  void Consume(int prompt, engine::Stream* stream);

  // Every choice has ended, or one has failed.
  bool done() const;
  // The first failure, if there is one. Then the answer is an error.
  const std::optional<ApiError>& error() const { return error_; }

  // About what the events that are due now, or the body, would take.
  int64_t pending_bytes() const;

  // stream: appends the events that are due now, at the end with usage and [DONE].
  void TakeEvents(std::string* out);
  // not stream, when done() and no error(): the whole body.
  std::string TakeBody();

 private:
  struct PromptState {
    bool known = false;  // PromptInfo has been taken
    engine::PromptInfo info;
  };

  void TakePromptInfo(int prompt, engine::Stream* stream);
  const std::vector<int32_t>* ShownPromptIds(int prompt) const;
  void AppendHead(std::string* out, std::string_view object) const;
  void AppendUsage(std::string* out) const;
  void AppendRoleChunks(std::string* out);
  void AppendChunk(std::string* out, int choice);
  void AppendEnd(std::string* out);

  const ResponsePlan plan_;
  std::vector<std::unique_ptr<ChoiceWriter>> choices_;
  std::vector<PromptState> prompts_;
  std::vector<engine::StreamEvent> events_;
  std::optional<ApiError> error_;
  bool began_ = false;  // the role chunks are written
  bool ended_ = false;
};

// The event that tells a failure after the head of a streamed answer, with [DONE] behind it.
std::string ErrorEvents(const ApiError& error);

}  // namespace tiercel::api
