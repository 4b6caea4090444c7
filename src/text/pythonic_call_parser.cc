#include "text/pythonic_call_parser.h"

#include <cctype>
#include <charconv>
#include <utility>

#include "text/json_escape.h"
#include "text/tags.h"
#include "text/utf8.h"

namespace tiercel::text {
namespace {

constexpr int kMaxCallDepth = 64;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
// Letters are those of every script.
bool IsNameBegin(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || std::isalpha(byte) != 0 || c == '_';
}
bool IsNamePart(char c) { return IsNameBegin(c) || IsDigit(c) || c == '.' || c == '-'; }

// Takes the blanks off the end. False: there are others, so it is no name.
bool TrimName(std::string* name) {
  name->resize(name->find_last_not_of(kBlanks) + 1);
  return name->find_first_of(kBlanks) == std::string::npos;
}

// A reader of one literal from the front of a text.
class Literal {
 public:
  explicit Literal(std::string_view text) : text_(text) {}

  std::optional<std::string> Whole() {
    std::string out;
    if (!Read(0, &out)) return std::nullopt;
    SkipBlanks();
    if (!text_.empty()) return std::nullopt;
    return out;
  }

 private:
  void SkipBlanks() {
    while (!text_.empty() && IsBlank(text_.front())) text_.remove_prefix(1);
  }
  bool Take(std::string_view word) {
    if (!text_.starts_with(word)) return false;
    text_.remove_prefix(word.size());
    return true;
  }

  bool Read(int depth, std::string* out) {
    SkipBlanks();
    if (text_.empty() || depth > kMaxCallDepth) return false;
    switch (text_.front()) {
      case '[': return ReadList(']', depth, out);
      case '(': return ReadParentheses(depth, out);
      case '{': return ReadDictionary(depth, out);
      case '"':
      case '\'': return ReadString(out);
      default: break;
    }
    constexpr std::pair<std::string_view, std::string_view> kWords[] = {
        {"True", "true"}, {"False", "false"}, {"None", "null"},
        {"true", "true"}, {"false", "false"}, {"null", "null"}};
    for (const auto& [word, json] : kWords) {
      if (!Take(word)) continue;
      out->append(json);
      return text_.empty() || !IsNamePart(text_.front());
    }
    return ReadNumber(out);
  }

  // A tuple, or one value without a comma, which is itself.
  bool ReadParentheses(int depth, std::string* out) {
    const size_t begin = out->size();
    int64_t commas = 0;
    if (!ReadList(')', depth, out, &commas)) return false;
    if (commas > 0 || out->size() == begin + 2) return true;
    out->pop_back();
    out->erase(begin, 1);
    return true;
  }

  bool ReadList(char end, int depth, std::string* out, int64_t* commas = nullptr) {
    text_.remove_prefix(1);
    out->push_back('[');
    for (bool first = true;; first = false) {
      SkipBlanks();
      if (Take({&end, 1})) break;
      if (!first) out->append(", ");
      if (!Read(depth + 1, out)) return false;
      SkipBlanks();
      if (Take(",")) {
        if (commas != nullptr) ++*commas;
        continue;
      }
      if (!Take({&end, 1})) return false;
      break;
    }
    out->push_back(']');
    return true;
  }

  // A text, or what json.dumps makes one of.
  bool ReadKey(int depth, std::string* out) {
    std::string key;
    if (!Read(depth + 1, &key) || key.front() == '[' || key.front() == '{') return false;
    if (key.front() == '"') {
      out->append(key);
    } else {
      out->append("\"").append(key).append("\"");
    }
    return true;
  }

  bool ReadDictionary(int depth, std::string* out) {
    text_.remove_prefix(1);
    out->push_back('{');
    for (bool first = true;; first = false) {
      SkipBlanks();
      if (Take("}")) break;
      if (!first) out->append(", ");
      if (!ReadKey(depth, out)) return false;
      SkipBlanks();
      if (!Take(":")) return false;
      out->append(": ");
      if (!Read(depth + 1, out)) return false;
      SkipBlanks();
      if (Take(",")) continue;
      if (!Take("}")) return false;
      break;
    }
    out->push_back('}');
    return true;
  }

  // An integer of another base, behind its prefix; of at most 64 bits.
  bool ReadInteger(int base, std::string* out) {
    std::string digits;
    while (!text_.empty() && IsNamePart(text_.front())) {
      if (text_.front() != '_') digits.push_back(text_.front());
      text_.remove_prefix(1);
    }
    uint64_t value = 0;
    const char* const end = digits.data() + digits.size();
    const auto result = std::from_chars(digits.data(), end, value, base);
    if (result.ec != std::errc() || result.ptr != end) return false;
    out->append(std::to_string(value));
    return true;
  }

  // [-+] digits [. digits] [e [-+] digits], "_" between digits, as JSON writes it.
  bool ReadNumber(std::string* out) {
    if (Take("-")) {
      out->push_back('-');
    } else {
      Take("+");
    }
    constexpr std::pair<std::string_view, int> kBases[] = {{"0x", 16}, {"0X", 16}, {"0o", 8}, {"0O", 8}, {"0b", 2}, {"0B", 2}};
    for (const auto& [prefix, base] : kBases) {
      if (Take(prefix)) return ReadInteger(base, out);
    }
    const auto digits = [&](std::string* into) {
      while (!text_.empty() && (IsDigit(text_.front()) || text_.front() == '_')) {
        if (text_.front() != '_') into->push_back(text_.front());
        text_.remove_prefix(1);
      }
    };
    std::string whole, fraction, exponent;
    digits(&whole);
    const bool has_point = Take(".");
    if (has_point) digits(&fraction);
    if (whole.empty() && fraction.empty()) return false;
    if (whole.size() > 1 && whole.front() == '0') return false;
    out->append(whole.empty() ? "0" : whole);
    if (has_point) out->append(".").append(fraction.empty() ? "0" : fraction);
    if (Take("e") || Take("E")) {
      out->push_back('e');
      if (Take("-")) {
        out->push_back('-');
      } else {
        Take("+");
      }
      digits(&exponent);
      if (exponent.empty()) return false;
      out->append(exponent);
    }
    return text_.empty() || !IsNamePart(text_.front());
  }

  // One or more, side by side, are one.
  bool ReadString(std::string* out) {
    std::string value;
    while (!text_.empty() && (text_.front() == '"' || text_.front() == '\'')) {
      const char quote = text_.front();
      text_.remove_prefix(1);
      while (true) {
        if (text_.empty()) return false;
        const char c = text_.front();
        text_.remove_prefix(1);
        if (c == quote) break;
        if (c != '\\') {
          value.push_back(c);
        } else if (!ReadEscape(&value)) {
          return false;
        }
      }
      SkipBlanks();
    }
    out->push_back('"');
    AppendJsonEscaped(value, out);
    out->push_back('"');
    return true;
  }

  bool ReadEscape(std::string* value) {
    if (text_.empty()) return false;
    const char c = text_.front();
    text_.remove_prefix(1);
    switch (c) {
      case 'n': value->push_back('\n'); return true;
      case 't': value->push_back('\t'); return true;
      case 'r': value->push_back('\r'); return true;
      case 'b': value->push_back('\b'); return true;
      case 'f': value->push_back('\f'); return true;
      case 'a': value->push_back('\a'); return true;
      case 'v': value->push_back('\v'); return true;
      case '\\':
      case '\'':
      case '"': value->push_back(c); return true;
      case '\n': return true;  // a continued line
      case 'x': return ReadCodePoint(2, value);
      case 'u': return ReadCodePoint(4, value);
      case 'U': return ReadCodePoint(8, value);
      default: break;
    }
    if (IsOctal(c)) return ReadOctal(c - '0', value);
    // Python keeps what it does not know. (The names of \N{…} are not known here.)
    value->push_back('\\');
    value->push_back(c);
    return true;
  }

  static bool IsOctal(char c) { return c >= '0' && c <= '7'; }

  // Behind the first of at most three digits.
  bool ReadOctal(int code, std::string* value) {
    for (int i = 0; i < 2 && !text_.empty() && IsOctal(text_.front()); ++i) {
      code = 8 * code + (text_.front() - '0');
      text_.remove_prefix(1);
    }
    AppendCharacter(static_cast<uint32_t>(code), value);
    return true;
  }

  bool ReadHex(size_t size, uint32_t* code) {
    if (text_.size() < size) return false;
    const auto result = std::from_chars(text_.data(), text_.data() + size, *code, 16);
    if (result.ec != std::errc() || result.ptr != text_.data() + size) return false;
    text_.remove_prefix(size);
    return true;
  }

  bool ReadCodePoint(size_t digits, std::string* value) {
    uint32_t code = 0;
    if (!ReadHex(digits, &code)) return false;
    // Pairs, as JSON writes what lies beyond 16 bits.
    if (code >= 0xD800 && code < 0xDC00 && Take("\\u")) {
      uint32_t low = 0;
      if (!ReadHex(4, &low) || low < 0xDC00 || low > 0xDFFF) return false;
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
    AppendCharacter(code, value);
    return true;
  }

  std::string_view text_;
};

}  // namespace

std::optional<std::string> PythonLiteralToJson(std::string_view text) { return Literal(text).Whole(); }

void PythonicCallParser::Add(std::string_view arguments, Piece* piece) {
  if (!std::exchange(shown_, true)) {
    piece->calls.push_back({num_calls_++, name_, {}});
    raw_.clear();
  } else if (piece->calls.empty()) {
    piece->calls.push_back({num_calls_ - 1, {}, {}});
  }
  piece->calls.back().arguments += arguments;
}

void PythonicCallParser::Break(Piece* piece) {
  if (num_calls_ == 0) {
    piece->content += std::exchange(raw_, {});
    state_ = State::kPlain;
  } else {
    state_ = State::kEnd;
  }
}

void PythonicCallParser::EndCall(Piece* piece) {
  Add(has_arguments_ ? "}" : "{}", piece);
  state_ = State::kBehindCall;
}

bool PythonicCallParser::EndValue(Piece* piece) {
  const std::optional<std::string> json = PythonLiteralToJson(value_);
  if (!json) return false;
  std::string out = std::exchange(has_arguments_, true) ? ", \"" : "{\"";
  AppendJsonEscaped(key_, &out);
  out += "\": " + *json;
  Add(out, piece);
  value_.clear();
  return true;
}

bool PythonicCallParser::ReadValue(char c, Piece* piece) {
  if (quote_ != 0) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == quote_) {
      quote_ = 0;
    }
  } else if (c == '"' || c == '\'') {
    quote_ = c;
  } else if (c == '[' || c == '{' || c == '(') {
    ++depth_;
  } else if (depth_ > 0 && (c == ']' || c == '}' || c == ')')) {
    --depth_;
  } else if (depth_ == 0 && (c == ',' || c == ')')) {
    if (!EndValue(piece)) return false;
    state_ = State::kBeforeKey;
    if (c == ')') EndCall(piece);
    return true;
  }
  value_.push_back(c);
  return true;
}

bool PythonicCallParser::ReadByte(char c, Piece* piece) {
  const bool skips = state_ != State::kName && state_ != State::kKey && state_ != State::kValue;
  if (skips && IsBlank(c)) return true;
  switch (state_) {
    case State::kBegin:
      state_ = State::kBeforeCall;
      return c == '[';
    case State::kBeforeCall:
      if (num_calls_ == max_calls_) {
        state_ = State::kEnd;
        return true;
      }
      name_.assign(1, c);
      shown_ = has_arguments_ = false;
      state_ = State::kName;
      return IsNameBegin(c);
    case State::kName:
      if (c == '(') {
        state_ = State::kBeforeKey;
        return TrimName(&name_);
      }
      name_.push_back(c);
      return (IsNamePart(c) || IsBlank(c)) && name_.size() <= kMaxCallName;
    case State::kBeforeKey:
      if (c == ')') {
        EndCall(piece);
        return true;
      }
      key_.assign(1, c);
      state_ = State::kKey;
      return IsNameBegin(c);
    case State::kKey:
      if (c == '=') {
        if (!TrimName(&key_)) return false;
        depth_ = 0;
        quote_ = 0;
        escaped_ = false;
        state_ = State::kValue;
        return true;
      }
      key_.push_back(c);
      return (IsNamePart(c) || IsBlank(c)) && key_.size() <= kMaxCallName;
    case State::kValue: return ReadValue(c, piece);
    case State::kBehindCall:
      state_ = c == ']' ? State::kEnd : State::kBeforeCall;
      return c == ']' || c == ',';
    case State::kEnd:
    case State::kPlain: break;
  }
  return true;
}

ToolParser::Piece PythonicCallParser::Read(std::string_view text) {
  Piece piece;
  while (!text.empty() && state_ != State::kEnd) {
    if (state_ == State::kPlain) {
      piece.content += text;
      break;
    }
    if (num_calls_ == 0) raw_.push_back(text.front());
    if (!ReadByte(text.front(), &piece)) Break(&piece);
    text.remove_prefix(1);
  }
  return piece;
}

ToolParser::Piece PythonicCallParser::Finish() {
  Piece piece;
  if (state_ != State::kEnd && state_ != State::kPlain) Break(&piece);
  return piece;
}

}  // namespace tiercel::text
