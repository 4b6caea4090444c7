#include "api/responder.h"

#include <span>
#include <utility>

#include "api/json_writer.h"
#include "api/stream_reader.h"

namespace tiercel::api {

namespace {

std::string ResponsesErrorEvent(const ApiError& error, int64_t number) {
  std::string out = "event: error\ndata: {\"type\":\"error\",\"sequence_number\":";
  AppendJsonInt(&out, number);
  out += R"(,"code":)";
  AppendJsonString(&out, error.type);
  out += R"(,"message":)";
  AppendJsonString(&out, error.message);
  out += R"(,"param":)";
  AppendJsonStringOrNull(&out, error.param);
  return out += "}\n\n";
}

}  // namespace

std::string ErrorEvents(const ApiError& error, Protocol protocol, int64_t number) {
  const std::string body = ErrorBody(error, protocol);
  if (protocol == Protocol::kMessages) return fmt::format("event: error\ndata: {}\n\n", body);
  if (protocol == Protocol::kResponses) return ResponsesErrorEvent(error, number);
  return fmt::format("data: {}\n\ndata: [DONE]\n\n", body);
}

namespace {

std::unique_ptr<AnswerWriter> NewWriter(const Answer& answer) {
  switch (answer.plan.protocol) {
    case Protocol::kChat: return NewChatWriter(answer);
    case Protocol::kMessages: return NewMessagesWriter(answer);
    case Protocol::kResponses: return NewResponsesWriter(answer);
    case Protocol::kPooling: return NewPoolingWriter(answer);
    case Protocol::kCompletions: break;
  }
  return NewCompletionWriter(answer);
}

}  // namespace

Responder::Responder(ResponsePlan plan)
    : answer_(std::move(plan)),
      writer_(NewWriter(answer_)),
      written_(answer_.choices.size()) {}

void Responder::AddPrompt(int prompt) {
  const std::string& echo = plan().prompts[static_cast<size_t>(prompt)].echo_text;
  if (echo.empty()) return;
  for (int choice = prompt * plan().n; choice < (prompt + 1) * plan().n; ++choice) {
    answer_.choice(choice).Echo(echo);
    writer_->AddPrompt(choice);
  }
}

void Responder::Consume(int prompt, engine::Stream* stream) {
  std::optional<ApiError> error = ReadStream(
      &answer_, prompt, stream, &events_, [&] { AddPrompt(prompt); },
      [&](int choice, std::span<const engine::OutputToken> tokens) {
        writer_->AddTokens(choice, tokens);
      });
  if (error && !error_) error_ = std::move(*error);
}

int64_t Responder::pending_bytes() const {
  int64_t bytes = 0;
  for (int i = 0; i < answer_.num_choices(); ++i) {
    bytes += answer_.choice(i).pending().bytes() + writer_->pending_bytes(i);
  }
  return bytes;
}

// Whether a chunk is due: text beyond the interval, the first text, or the end.
bool Responder::ChunkDue(int choice) const {
  const OutputAssembler& assembler = answer_.choice(choice);
  const Written& written = written_[static_cast<size_t>(choice)];
  if (assembler.finish()) return !written.ended;
  // Without text there is nothing to show: no run of empty chunks while text is held back.
  if (!assembler.pending().shows_anything()) return false;
  return !written.began || assembler.pending().num_tokens >= plan().stream_interval;
}

void Responder::TakeEvents(std::string* out) {
  if (ended_) return;
  if (error_) {
    ended_ = true;
    out->append(ErrorEvents(*error_, plan().protocol, writer_->num_events()));
    return;
  }
  const auto begin = [&] {
    if (!std::exchange(began_, true)) writer_->AppendStart(out);
  };
  if (writer_->starts_at_once()) begin();
  for (int i = 0; i < answer_.num_choices(); ++i) {
    if (!ChunkDue(i)) continue;
    begin();
    Written& written = written_[static_cast<size_t>(i)];
    writer_->AppendChunk(i, !written.began, out);
    written = {true, answer_.choice(i).finish().has_value()};
  }
  if (done()) {
    ended_ = true;
    writer_->AppendEnd(out);
  }
}

}  // namespace tiercel::api
