// AnswerReader: one streamed answer of an OpenAI server, as it comes, into an Outcome.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"
#include "bench/outcome.h"
#include "net/http_client.h"
#include "net/sse_reader.h"

namespace tiercel::bench {

// Chunks of completions and of chats. A chunk is timed when its last byte has come. Which ones
// count is vLLM's rule: those with a choice, whatever text they have.
class AnswerReader {
 public:
  // Begins at the clock's now; the clock outlives it.
  AnswerReader(const Clock* clock, int64_t prompt_tokens);
  AnswerReader(const AnswerReader&) = delete;
  AnswerReader& operator=(const AnswerReader&) = delete;

  bool Feed(std::string_view piece);  // false: enough of it, an error was said
  // What came of it, once the exchange has ended.
  Outcome End(const Expected<net::HttpResponse>& response) &&;

 private:
  bool TakeEvent(std::string_view data);
  bool Fail(std::string error);

  const Clock* const clock_;
  net::SseReader events_;
  Outcome outcome_;
  int64_t bytes_ = 0;
  bool has_chunk_ = false;
  double last_chunk_s_ = 0;
};

// The message of an OpenAI error body; else the body itself, cut short.
std::string ErrorText(std::string_view body);

}  // namespace tiercel::bench
