// AnswerWriter: the words of one protocol for what an OutputAssembler has made of the tokens.
//
// A writer keeps for each choice what only its protocol shows of single tokens (log-probabilities,
// ids), and takes the text from the assemblers when a chunk or the body is written.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "api/answer.h"

namespace tiercel::api {

class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;

  // The prompt of `choice` has been computed; comes before the choice's first tokens.
  virtual void AddPrompt(int choice) = 0;
  virtual void AddTokens(int choice, std::span<const engine::OutputToken> tokens) = 0;
  // About what they will take when they are written.
  virtual int64_t pending_bytes(int choice) const = 0;
  // Of a stream whose events are numbered: how many there were.
  virtual int64_t num_events() const { return 0; }

  // Whether a stream begins before there are tokens: its start has nothing of them.
  virtual bool starts_at_once() const { return false; }

  // Streamed: what stands before the first chunk of all, one chunk (it takes what is pending of the
  // choice, which may be nothing at its end; `is_first` of the choice's), and what stands behind the last one.
  virtual void AppendStart(std::string* out) = 0;
  virtual void AppendChunk(int choice, bool is_first, std::string* out) = 0;
  virtual void AppendEnd(std::string* out) = 0;
  // The whole body, once every choice has ended: not streamed, or of a response behind its stream's end.
  virtual std::string TakeBody() = 0;
};

// `answer` must outlive the writer.
std::unique_ptr<AnswerWriter> NewCompletionWriter(const Answer& answer);
std::unique_ptr<AnswerWriter> NewChatWriter(const Answer& answer);
std::unique_ptr<AnswerWriter> NewMessagesWriter(const Answer& answer);
std::unique_ptr<AnswerWriter> NewResponsesWriter(const Answer& answer);
std::unique_ptr<AnswerWriter> NewPoolingWriter(const Answer& answer);

}  // namespace tiercel::api
