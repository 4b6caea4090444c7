#include "bench/answer_reader.h"

#include <fmt/format.h>

#include <utility>

#include "api/json_reader.h"

namespace tiercel::bench {
namespace {

// A whole streamed answer, its events included: a million tokens of 250 bytes.
constexpr int64_t kMaxAnswerBytes = int64_t{256} << 20;
constexpr size_t kMaxErrorBytes = 300;

std::string MessageOf(const api::Json& error) {
  if (error.string() != nullptr) return *error.string();
  const std::string* message = error.FindString("message");
  return message != nullptr ? *message : error.DumpStart(kMaxErrorBytes);
}

// choices[0].delta.content or choices[0].text.
const std::string* TextOf(const api::Json& choice) {
  const api::Json* delta = choice.Find("delta");
  return delta != nullptr ? delta->FindString("content") : choice.FindString("text");
}

}  // namespace

std::string ErrorText(std::string_view body) {
  const auto parsed = api::ParseJson(body);
  const api::Json* error = parsed ? parsed->Find("error") : nullptr;
  return error != nullptr ? MessageOf(*error) : std::string(body.substr(0, kMaxErrorBytes));
}

AnswerReader::AnswerReader(const Clock* clock, int64_t prompt_tokens)
    : clock_(clock),
      events_([this](std::string_view, std::string_view data) { return TakeEvent(data); }) {
  outcome_.start_s = clock_->Now();
  outcome_.prompt_tokens = prompt_tokens;
}

bool AnswerReader::Feed(std::string_view piece) {
  bytes_ += static_cast<int64_t>(piece.size());
  if (bytes_ > kMaxAnswerBytes) {
    return Fail(fmt::format("an answer without an end: left after {} bytes", bytes_));
  }
  if (events_.Feed(piece)) return true;
  return events_.too_large() ? Fail("an event without an end") : false;
}

bool AnswerReader::Fail(std::string error) {
  outcome_.error = std::move(error);
  return false;
}

bool AnswerReader::TakeEvent(std::string_view data) {
  if (data == "[DONE]") return true;
  const auto event = api::ParseJson(data);
  if (!event) return Fail(fmt::format("an event that is no JSON: {}", event.error().message()));
  if (const api::Json* error = event->Find("error"); error != nullptr && !error->is_null()) {
    return Fail(MessageOf(*error));
  }
  const api::Json* choices = event->Find("choices");
  if (choices != nullptr && choices->array() != nullptr && !choices->array()->empty()) {
    const double now = clock_->Now();
    if (has_chunk_) {
      outcome_.itls_s.push_back(now - last_chunk_s_);
    } else {
      outcome_.ttft_s = now - outcome_.start_s;
    }
    has_chunk_ = true;
    last_chunk_s_ = now;
    if (const std::string* text = TextOf(choices->array()->front())) outcome_.text += *text;
  }
  if (const api::Json* usage = event->Find("usage"); usage != nullptr) {
    const auto count = [&](const char* key) {
      const api::Json* value = usage->Find(key);
      return value != nullptr ? value->integer() : nullptr;
    };
    if (const int64_t* tokens = count("completion_tokens")) outcome_.output_tokens = *tokens;
    if (const int64_t* tokens = count("prompt_tokens")) outcome_.prompt_tokens = *tokens;
  }
  return true;
}

Outcome AnswerReader::End(const Expected<net::HttpResponse>& response) && {
  if (outcome_.error.empty()) {
    if (!response) {
      outcome_.error = response.error().message();
    } else if (response->status != 200) {
      outcome_.error = fmt::format("HTTP {}: {}", response->status, ErrorText(response->body));
    } else if (!has_chunk_) {
      outcome_.error = "the answer ended without a token";
    }
  }
  // One line, whatever the server wrote.
  if (!outcome_.error.empty()) outcome_.error = Internal("{}", outcome_.error).message();
  outcome_.success = outcome_.error.empty();
  if (has_chunk_) outcome_.latency_s = last_chunk_s_ - outcome_.start_s;
  return std::move(outcome_);
}

}  // namespace tiercel::bench
