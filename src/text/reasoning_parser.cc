#include "text/reasoning_parser.h"

#include <algorithm>
#include <utility>

namespace tiercel::text {

// Whether it is decided what the text begins with.
bool ReasoningParser::ReadOpening() {
  const size_t first = std::min(held_.find_first_not_of(kBlanks), held_.size());
  std::string none;
  blanks_.Add(std::string_view(held_).substr(0, first), &none);
  held_.erase(0, first);
  if (held_.size() < kThoughtBegin.size() && kThoughtBegin.starts_with(held_)) return false;
  if (held_.starts_with(kThoughtBegin)) {
    blanks_.Take();
    held_.erase(0, kThoughtBegin.size());
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
  const size_t close = held_.find(kThoughtEnd);
  const size_t call = has_tools_ ? held_.find(kCallBegin) : std::string::npos;
  const size_t end = std::min(close, call);
  if (end == std::string::npos) {
    const size_t possible = std::max(PossibleTag(held_, kThoughtEnd), has_tools_ ? PossibleTag(held_, kCallBegin) : 0);
    blanks_.Add(std::string_view(held_).substr(0, held_.size() - possible), &piece->reasoning);
    held_.erase(0, held_.size() - possible);
    return;
  }
  blanks_.Add(std::string_view(held_).substr(0, end), &piece->reasoning);
  held_.erase(0, end == close ? end + kThoughtEnd.size() : end);
  state_ = State::kAnswering;
}

// A </think> that a model writes once more before it says anything is no part of the answer; any other is.
void ReasoningParser::ReadAnswer(Piece* piece) {
  while (!has_answered_) {
    held_.erase(0, std::min(held_.find_first_not_of("\r\n"), held_.size()));
    if (held_.size() < kThoughtEnd.size() && kThoughtEnd.starts_with(held_)) return;
    if (!held_.starts_with(kThoughtEnd)) break;
    held_.erase(0, kThoughtEnd.size());
  }
  AddAnswer(held_, piece);
  held_.clear();
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
  if (prompt.ends_with(kThoughtBegin)) return true;
  if (prompt.ends_with(kThoughtEnd)) return false;
  return otherwise;
}

}  // namespace tiercel::text
