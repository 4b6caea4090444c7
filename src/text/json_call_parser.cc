#include "text/json_call_parser.h"

#include <utility>

namespace tiercel::text {

size_t HermesParser::ReadOutside(std::string_view text, Piece* piece) {
  const size_t held = held_.size();
  held_ += text;
  const size_t tag = TakesMore() ? held_.find(kCallBegin) : std::string::npos;
  const size_t end = tag != std::string::npos ? tag : held_.size() - PossibleTag(held_, kCallBegin);
  if (state_ == State::kContent) {
    blanks_.Add(std::string_view(held_).substr(0, end), &piece->content);
  }
  if (tag == std::string::npos) {
    held_.erase(0, end);
    return text.size();
  }
  held_.clear();
  blanks_.Take();  // before a call they are nothing
  BeginCall(kCallBegin);
  return tag + kCallBegin.size() - held;
}

// One byte at a time: there is little outside of calls.
size_t Llama3JsonParser::ReadOutside(std::string_view text, Piece* piece) {
  const char c = text.front();
  if (state_ == State::kBetweenCalls) {
    if (c != '{' || !TakesMore()) return 1;
    BeginCall({});
    return 0;
  }
  const std::string_view seen = std::string_view(held_).substr(num_blanks_);
  if (c == '{' && (seen.empty() || seen.starts_with(kPythonTag))) {
    BeginCall(held_);
    held_.clear();
    return 0;
  }
  held_.push_back(c);
  if (IsBlank(c) && (seen.empty() || seen.starts_with(kPythonTag))) {
    if (seen.empty()) ++num_blanks_;
    return 1;
  }
  if (kPythonTag.starts_with(std::string_view(held_).substr(num_blanks_))) return 1;
  state_ = State::kPlain;
  piece->content += held_;
  held_.clear();
  return 1;
}

void JsonCallParser::BeginCall(std::string_view raw) {
  state_ = State::kBeforeObject;
  raw_ = raw;
  key_.clear();
  name_.clear();
  arguments_.clear();
  has_name_ = has_arguments_ = shown_ = false;
}

void JsonCallParser::ShowCall(Piece* piece) {
  shown_ = true;
  piece->calls.push_back({num_calls_++, std::move(name_), std::move(arguments_)});
  raw_.clear();
}

void JsonCallParser::AddArguments(std::string_view text, Piece* piece) {
  has_arguments_ = true;
  if (!shown_) {
    arguments_ += text;
    // Not before its arguments have begun: until then it may be no call.
    if (has_name_) ShowCall(piece);
    return;
  }
  if (piece->calls.empty()) piece->calls.push_back({num_calls_ - 1, {}, {}});
  piece->calls.back().arguments += text;
}

void JsonCallParser::EndCall(Piece* piece) {
  if (!has_name_ || (!has_arguments_ && !MayLackArguments())) return Break(piece);
  if (!has_arguments_) AddArguments("{}", piece);
  if (!shown_) ShowCall(piece);
  state_ = State::kBetweenCalls;
}

void JsonCallParser::Break(Piece* piece) {
  if (num_calls_ == 0) {
    piece->content += raw_;
    state_ = State::kPlain;
  } else {
    state_ = State::kBetweenCalls;
  }
  raw_.clear();
}

// Of several members with arguments the first counts: it may have been passed on.
void JsonCallParser::EndKey() {
  const bool has_arguments = key_ == "arguments" || key_ == "parameters";
  member_ = key_ == "name"                       ? Member::kName
            : has_arguments && !has_arguments_ ? Member::kArguments
                                                 : Member::kOther;
  state_ = State::kBeforeColon;
}

void JsonCallParser::EndValue() {
  state_ = State::kBeforeKey;
  if (member_ != Member::kName) return;
  // Functions' names are letters, digits, "_" and "-": an escape in one stays as it is.
  has_name_ = value_.size() > 2 && value_.front() == '"';
  if (has_name_) name_ = value_.substr(1, value_.size() - 2);
}

bool JsonCallParser::ReadValue(char c, Piece* piece) {
  if (is_scalar_ && (IsBlank(c) || c == ',' || c == '}')) {
    EndValue();
    return ReadByte(c, piece);
  }
  // A tag outside of strings: the model has forgotten to close a bracket.
  if (!in_string_ && c == '<') return false;
  if (member_ == Member::kName) value_.push_back(c);
  if (member_ == Member::kArguments) AddArguments({&c, 1}, piece);
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
    }
  } else if (c == '"') {
    in_string_ = true;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if (c == '}' || c == ']') {
    --depth_;
  }
  if (!is_scalar_ && !in_string_ && depth_ == 0) EndValue();
  return true;
}

bool JsonCallParser::ReadByte(char c, Piece* piece) {
  const bool skips = state_ != State::kKey && state_ != State::kValue;
  if (skips && IsBlank(c)) return true;
  switch (state_) {
    case State::kBeforeObject:
      if (c != '{') return false;
      state_ = State::kBeforeKey;
      return true;
    case State::kBeforeKey:
      if (c == ',') return true;
      if (c == '}') {
        EndCall(piece);
        return true;
      }
      if (c != '"') return false;
      key_.clear();
      state_ = State::kKey;
      return true;
    case State::kKey:
      // No key that matters has an escape, and none can hide the end of another.
      if (c == '"' && !key_.ends_with('\\')) {
        EndKey();
      } else {
        key_.push_back(c);
      }
      return true;
    case State::kBeforeColon:
      if (c != ':') return false;
      state_ = State::kBeforeValue;
      return true;
    case State::kBeforeValue:
      depth_ = 0;
      in_string_ = escaped_ = false;
      is_scalar_ = c != '{' && c != '[' && c != '"';
      if (is_scalar_ && std::string_view("-0123456789tfn").find(c) == std::string_view::npos) {
        return false;
      }
      value_.clear();
      state_ = State::kValue;
      return ReadValue(c, piece);
    case State::kValue: return ReadValue(c, piece);
    case State::kContent:
    case State::kBetweenCalls:
    case State::kPlain: break;
  }
  return false;
}

JsonCallParser::Piece JsonCallParser::Read(std::string_view text) {
  Piece piece;
  while (!text.empty()) {
    if (state_ == State::kContent || state_ == State::kBetweenCalls) {
      text.remove_prefix(ReadOutside(text, &piece));
    } else if (state_ == State::kPlain) {
      piece.content += text;
      break;
    } else if (!shown_) {
      raw_.push_back(text.front());
      if (ReadByte(text.front(), &piece)) {
        text.remove_prefix(1);
      } else {
        raw_.pop_back();
        Break(&piece);
      }
    } else if (ReadByte(text.front(), &piece)) {
      text.remove_prefix(1);
    } else {
      Break(&piece);
    }
  }
  return piece;
}

JsonCallParser::Piece JsonCallParser::Finish() {
  Piece piece;
  if (InCall()) Break(&piece);
  if (state_ == State::kContent) piece.content += blanks_.Take() + held_;
  held_.clear();
  return piece;
}

}  // namespace tiercel::text
