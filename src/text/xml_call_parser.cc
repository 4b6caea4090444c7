#include "text/xml_call_parser.h"

#include <algorithm>
#include <utility>

#include "base/ascii_case.h"
#include "text/json_escape.h"

namespace tiercel::text {
namespace {

constexpr std::string_view kFunction = "<function=", kFunctionEnd = "</function>";
constexpr std::string_view kParameter = "<parameter=", kParameterEnd = "</parameter>";
// Behind them comes what is no value any more, though its own end may have been forgotten.
constexpr std::string_view kValueEnds[] = {kParameterEnd, kParameter, kFunctionEnd, kCallEnd};

// Whether `text` is the word null but for blanks and case; or could become it.
bool IsNull(std::string_view text) {
  return EqualsNoCase(text, "null");
}
bool MayBeNull(std::string_view text) {
  return EqualsNoCase(text, std::string_view("null\n").substr(0, text.size()));
}

}  // namespace

void XmlCallParser::Add(std::string_view arguments, Piece* piece) {
  if (piece->calls.empty() || piece->calls.back().index != num_calls_ - 1) {
    piece->calls.push_back({num_calls_ - 1, {}, {}});
  }
  piece->calls.back().arguments += arguments;
}

bool XmlCallParser::ReadContent(Piece* piece) {
  // Some models leave the outer tag out.
  size_t tag = std::string::npos;
  if (num_calls_ < max_calls_) tag = std::min(held_.find(kCallBegin), held_.find(kFunction));
  const size_t end = tag != std::string::npos ? tag
                                              : held_.size() - std::max(PossibleTag(held_, kCallBegin),
                                                                        PossibleTag(held_, kFunction));
  if (state_ == State::kContent) {
    blanks_.Add(std::string_view(held_).substr(0, end), &piece->content);
  }
  held_.erase(0, end);
  if (tag == std::string::npos) return false;
  raw_ = blanks_.Take();  // before a call they are nothing
  state_ = State::kBeforeFunction;
  if (held_.starts_with(kCallBegin)) {
    raw_ += kCallBegin;
    held_.erase(0, kCallBegin.size());
  }
  return true;
}

bool XmlCallParser::ReadBeforeFunction(Piece* piece) {
  const size_t begin = std::min(held_.find_first_not_of(kBlanks), held_.size());
  const std::string_view behind = std::string_view(held_).substr(begin);
  if (behind.starts_with(kFunction)) {
    raw_ += held_.substr(0, begin + kFunction.size());
    held_.erase(0, begin + kFunction.size());
    state_ = State::kName;
    return true;
  }
  if (kFunction.starts_with(behind)) return false;
  if (num_calls_ > 0) {
    state_ = State::kBetweenCalls;
    return true;
  }
  piece->content += std::exchange(raw_, {}) + std::exchange(held_, {});
  state_ = State::kPlain;
  return false;
}

bool XmlCallParser::ReadName(Piece* piece) {
  const size_t end = held_.find('>');
  if (end == std::string::npos && held_.size() <= kMaxCallName) return false;
  if (end == std::string::npos || end == 0 || end > kMaxCallName) {
    state_ = State::kBetweenCalls;
    if (num_calls_ > 0) return true;
    piece->content += std::exchange(raw_, {}) + std::exchange(held_, {});
    state_ = State::kPlain;
    return false;
  }
  function_ = held_.substr(0, end);
  held_.erase(0, end + 1);
  raw_.clear();
  has_parameters_ = false;
  piece->calls.push_back({num_calls_++, function_, {}});
  state_ = State::kBetweenParameters;
  return true;
}

void XmlCallParser::EndCall(Piece* piece) {
  Add(has_parameters_ ? "}" : "{}", piece);
  state_ = State::kBetweenCalls;
}

bool XmlCallParser::ReadBetweenParameters(Piece* piece) {
  const size_t begin = held_.find('<');
  held_.erase(0, std::min(begin, held_.size()));  // between tags there is nothing
  if (held_.empty()) return false;
  if (held_.starts_with(kParameter)) {
    held_.erase(0, kParameter.size());
    state_ = State::kKey;
    return true;
  }
  if (held_.starts_with(kFunctionEnd) || held_.starts_with(kCallEnd)) {
    held_.erase(0, held_.starts_with(kCallEnd) ? 0 : kFunctionEnd.size());
    EndCall(piece);
    return true;
  }
  for (const std::string_view tag : {kParameter, kFunctionEnd, kCallEnd}) {
    if (tag.starts_with(held_)) return false;
  }
  held_.erase(0, 1);
  return true;
}

bool XmlCallParser::ReadKey(Piece* piece) {
  const size_t end = held_.find('>');
  if (end == std::string::npos && held_.size() <= kMaxCallName) return false;
  if (end == std::string::npos || end > kMaxCallName) {
    state_ = State::kBetweenParameters;
    return true;
  }
  key_ = held_.substr(0, end);
  held_.erase(0, end + 1);
  is_text_ = types_ == nullptr || types_->IsText(function_, key_);
  began_ = value_begun_ = false;
  value_.clear();
  state_ = State::kValue;
  std::string begin = has_parameters_ ? ", \"" : "{\"";
  has_parameters_ = true;
  AppendJsonEscaped(key_, &begin);
  Add(begin + "\": ", piece);
  return true;
}

// value_ is what has come and not been given, without the line break before it.
void XmlCallParser::AddText(std::string_view text, Piece* piece) {
  value_ += text;
  if (!is_text_ || (!began_ && MayBeNull(value_))) return;
  std::string out = std::exchange(began_, true) ? "" : "\"";
  // The last line break may be the end tag's.
  const size_t size = value_.size() - (value_.ends_with('\n') ? 1 : 0);
  AppendJsonEscaped(std::string_view(value_).substr(0, size), &out);
  value_.erase(0, size);
  if (!out.empty()) Add(out, piece);
}

void XmlCallParser::EndValue(Piece* piece) {
  if (value_.ends_with('\n')) value_.pop_back();
  std::string out;
  if (!began_ && IsNull(value_)) {
    out = "null";
  } else if (is_text_) {
    if (!began_) out = "\"";
    AppendJsonEscaped(value_, &out);
    out += '"';
  } else {
    out = types_->ToJson(function_, key_, value_);
  }
  Add(out, piece);
  value_.clear();
  state_ = State::kBetweenParameters;
}

bool XmlCallParser::ReadValue(Piece* piece) {
  size_t end = std::string::npos, keep = 0;
  for (const std::string_view tag : kValueEnds) {
    end = std::min(end, held_.find(tag));
    keep = std::max(keep, PossibleTag(held_, tag));
  }
  std::string text = held_.substr(0, end != std::string::npos ? end : held_.size() - keep);
  held_.erase(0, text.size());
  // The first line break is the begin tag's.
  if (!text.empty() && !std::exchange(value_begun_, true) && text.front() == '\n') text.erase(0, 1);
  if (!text.empty()) AddText(text, piece);
  if (end == std::string::npos) return false;
  if (held_.starts_with(kParameterEnd)) held_.erase(0, kParameterEnd.size());
  EndValue(piece);
  return true;
}

bool XmlCallParser::Step(Piece* piece) {
  switch (state_) {
    case State::kContent:
    case State::kBetweenCalls: return ReadContent(piece);
    case State::kBeforeFunction: return ReadBeforeFunction(piece);
    case State::kName: return ReadName(piece);
    case State::kBetweenParameters: return ReadBetweenParameters(piece);
    case State::kKey: return ReadKey(piece);
    case State::kValue: return ReadValue(piece);
    case State::kPlain: break;
  }
  piece->content += std::exchange(held_, {});
  return false;
}

ToolParser::Piece XmlCallParser::Read(std::string_view text) {
  Piece piece;
  held_ += text;
  while (Step(&piece)) {
  }
  return piece;
}

ToolParser::Piece XmlCallParser::Finish() {
  Piece piece;
  if (state_ == State::kContent) {
    piece.content += blanks_.Take() + held_;
  } else if (state_ == State::kBeforeFunction || state_ == State::kName) {
    if (num_calls_ == 0) piece.content += raw_ + held_;
  } else if (state_ == State::kValue && is_text_) {
    AddText(held_, &piece);
  }
  held_.clear();
  return piece;
}

}  // namespace tiercel::text
