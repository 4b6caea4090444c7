#include "text/reasoning_parser.h"

#include <algorithm>
#include <utility>

namespace tiercel::text {

namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
constexpr std::string_view kToolCall = "<tool_call>";

}  // namespace

// Whether it is decided what the text begins with.
bool ReasoningParser::ReadOpening() {
  const size_t first = std::min(held_.find_first_not_of(kBlanks), held_.size());
  std::string none;
  blanks_.Add(std::string_view(held_).substr(0, first), &none);
  held_.erase(0, first);
  if (held_.size() < kOpen.size() && kOpen.starts_with(held_)) return false;
  if (held_.starts_with(kOpen)) {
    blanks_.Take();
    held_.erase(0, kOpen.size());
  }
  state_ = State::kThinking;
  return true;
}

void ReasoningParser::AddAnswer(std::string_view text, Piece* piece) {
  if (!has_answered_) {
    text.remove_prefix(std::min(text.find_first_not_of("\r\n"), text.size()));
    has_answered_ = !text.empty();
  }
  piece->content += text;
}

void ReasoningParser::ReadThought(Piece* piece) {
  const size_t close = held_.find(kClose);
  const size_t call = held_.find(kToolCall);
  const size_t end = std::min(close, call);
  if (end == std::string::npos) {
    const size_t possible = std::max(PossibleTag(held_, kClose), PossibleTag(held_, kToolCall));
    blanks_.Add(std::string_view(held_).substr(0, held_.size() - possible), &piece->reasoning);
    held_.erase(0, held_.size() - possible);
    return;
  }
  blanks_.Add(std::string_view(held_).substr(0, end), &piece->reasoning);
  held_.erase(0, end == close ? end + kClose.size() : end);
  state_ = State::kAnswering;
}

// A second </think> is no part of the answer.
void ReasoningParser::ReadAnswer(Piece* piece) {
  size_t begin = 0;
  for (size_t end; (end = held_.find(kClose, begin)) != std::string::npos; begin = end + kClose.size()) {
    AddAnswer(std::string_view(held_).substr(begin, end - begin), piece);
  }
  held_.erase(0, begin);
  const size_t certain = held_.size() - PossibleTag(held_, kClose);
  AddAnswer(std::string_view(held_).substr(0, certain), piece);
  held_.erase(0, certain);
}

ReasoningParser::Piece ReasoningParser::Read(std::string_view text) {
  Piece piece;
  if (state_ == State::kPlain) {
    piece.content = text;
    return piece;
  }
  held_ += text;
  if (state_ == State::kOpening && !ReadOpening()) return piece;
  if (state_ == State::kThinking) ReadThought(&piece);
  if (state_ == State::kAnswering) ReadAnswer(&piece);
  return piece;
}

ReasoningParser::Piece ReasoningParser::Finish() {
  Piece piece;
  const std::string held = std::exchange(held_, {});
  if (thinking()) {
    blanks_.Add(held, &piece.reasoning);
  } else {
    AddAnswer(held, &piece);
  }
  return piece;
}

bool BeginsWithThought(std::string_view prompt, bool otherwise) {
  prompt = prompt.substr(0, prompt.find_last_not_of(kBlanks) + 1);
  if (prompt.ends_with(kOpen)) return true;
  if (prompt.ends_with(kClose)) return false;
  return otherwise;
}

}  // namespace tiercel::text
