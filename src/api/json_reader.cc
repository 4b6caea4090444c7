// Our own, because a body may be one string of 30 MB: nlohmann's reader takes 12 ns a byte, copies what
// it cannot read into its message several times, and keeps no digits. It is what the test compares with.
#include "api/json_reader.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/utf8.h"

namespace tiercel::api {

namespace {

// Python, which vLLM's clients and templates meet, reads integers up to here.
constexpr size_t kMaxNumberBytes = 4300;

// Of duplicate keys the last value stays, at the first one's place.
void MergeDuplicates(Json::Object* members) {
  std::unordered_map<std::string_view, size_t> places;
  places.reserve(members->size());
  std::vector<size_t> doubles;
  for (size_t i = 0; i < members->size(); ++i) {
    const auto [it, is_new] = places.try_emplace((*members)[i].key, i);
    if (is_new) continue;
    (*members)[it->second].value = std::move((*members)[i].value);
    doubles.push_back(i);
  }
  if (doubles.empty()) return;
  size_t kept = 0;
  for (size_t i = 0, next = 0; i < members->size(); ++i) {
    if (next < doubles.size() && doubles[next] == i) {
      ++next;
      continue;
    }
    if (kept != i) (*members)[kept] = std::move((*members)[i]);
    ++kept;
  }
  members->resize(kept);
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Whether any of 8 bytes is not plain text within a string: a quote, a backslash, a control character
// or part of a character beyond ASCII. A borrow may run from such a byte into those after it, never
// into one before it: nothing is missed.
bool HasSpecial(uint64_t word) {
  constexpr uint64_t kOnes = 0x0101010101010101, kHighs = 0x8080808080808080;
  const uint64_t quote = word ^ (kOnes * '"');
  const uint64_t backslash = word ^ (kOnes * '\\');
  return ((word | (word - kOnes * 0x20) | (quote - kOnes) | (backslash - kOnes)) & kHighs) != 0;
}

// What a letter behind a backslash stands for; 0: nothing. A table, as a text may have millions of them.
constexpr std::array<char, 256> kMeanings = [] {
  std::array<char, 256> table{};
  constexpr std::string_view kLetters = "nt\"\\/bfr", kCharacters = "\n\t\"\\/\b\f\r";
  for (size_t i = 0; i < kLetters.size(); ++i) {
    table[static_cast<unsigned char>(kLetters[i])] = kCharacters[i];
  }
  return table;
}();

// Open containers are owned by the stack until they close, so that growing an array moves no parent.
class Reader {
 public:
  Reader(std::string_view text, const JsonLimits& limits)
      : begin_(text.data()), at_(begin_), end_(begin_ + text.size()), limits_(limits) {}

  int64_t num_values() const { return num_values_; }

  Expected<Json> Read() {
    // What a loop's turn reads: the beginning of a value, or what follows one.
    bool value_next = true;
    do {
      SkipBlanks();
      if (value_next ? !ReadValue(&value_next) : !ReadAfterValue(&value_next)) {
        return Unexpected(InvalidArgument("{}", error_));
      }
    } while (value_next || !stack_.empty());
    SkipBlanks();
    if (at_ != end_) {
      Fail("expected the end of the text");
      return Unexpected(InvalidArgument("{}", error_));
    }
    return std::move(root_);
  }

 private:
  // Always false.
  bool Fail(std::string_view what) {
    error_ = fmt::format("JSON decode error at byte {}: {}", at_ - begin_ + 1, what);
    if (at_ == end_) {
      error_ += ", found the end of the text";
    } else if (const auto c = static_cast<unsigned char>(*at_); c > 0x20 && c < 0x7f) {
      error_ += fmt::format(", found '{}'", *at_);
    } else {
      error_ += fmt::format(", found the byte 0x{:02x}", c);
    }
    return false;
  }

  template <typename... Args>
  bool Refuse(fmt::format_string<Args...> format, Args&&... args) {
    error_ = "JSON is too large: " + fmt::format(format, std::forward<Args>(args)...);
    return false;
  }

  bool Count() {
    return ++num_values_ <= limits_.max_values ||
           Refuse("it has more than {} values", limits_.max_values);
  }

  void SkipBlanks() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  bool Take(char c) {
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }

  // Not inlined: GCC 12 else warns of the unused parts of a variant that it knows to be null.
  [[gnu::noinline]] void Place(Json&& value) {
    if (stack_.empty()) {
      root_ = std::move(value);
    } else if (Json::Array* items = stack_.back().array()) {
      items->push_back(std::move(value));
    } else {
      stack_.back().object()->back().value = std::move(value);
    }
  }

  // A whole value, or the opening of a container and what stands before its first value.
  bool ReadValue(bool* value_next) {
    *value_next = false;
    if (at_ == end_) return Fail("expected a value");
    if (!Count()) return false;
    switch (*at_) {
      case '{': return Open(Json(Json::Object{}), value_next);
      case '[': return Open(Json(Json::Array{}), value_next);
      case 'n': return ReadWord("null", Json());
      case 't': return ReadWord("true", Json(true));
      case 'f': return ReadWord("false", Json(false));
      case '"': {
        std::string value;
        if (!ReadString(&value)) return false;
        Place(Json(std::move(value)));
        return true;
      }
      default: return ReadNumber();
    }
  }

  bool Open(Json container, bool* value_next) {
    if (static_cast<int>(stack_.size()) >= limits_.max_depth) {
      return Refuse("it is nested deeper than {} levels", limits_.max_depth);
    }
    ++at_;
    stack_.push_back(std::move(container));
    SkipBlanks();
    const bool is_object = stack_.back().object() != nullptr;
    if (Take(is_object ? '}' : ']')) {
      Close();
      return true;
    }
    *value_next = true;
    return !is_object || ReadKey();
  }

  void Close() {
    Json value = std::move(stack_.back());
    stack_.pop_back();
    if (Json::Object* members = value.object(); members != nullptr && members->size() > 1) {
      MergeDuplicates(members);
    }
    Place(std::move(value));
  }

  // Behind a value within a container: a comma and what stands before the next value, or the end.
  bool ReadAfterValue(bool* value_next) {
    const bool is_object = stack_.back().object() != nullptr;
    if (Take(is_object ? '}' : ']')) {
      Close();
      return true;
    }
    if (!Take(',')) return Fail(is_object ? "expected ',' or '}'" : "expected ',' or ']'");
    *value_next = true;
    if (!is_object) return true;
    SkipBlanks();
    return ReadKey();
  }

  // A key and its colon.
  bool ReadKey() {
    if (at_ == end_ || *at_ != '"') return Fail("expected a key");
    Json::Object& members = *stack_.back().object();
    if (static_cast<int64_t>(members.size()) >= limits_.max_object_keys) {
      return Refuse("an object has more than {} keys", limits_.max_object_keys);
    }
    if (!Count()) return false;
    std::string key;
    if (!ReadString(&key)) return false;
    members.push_back({std::move(key), Json()});
    SkipBlanks();
    return Take(':') || Fail("expected ':'");
  }

  bool ReadWord(std::string_view word, Json&& value) {
    for (const char c : word) {
      if (!Take(c)) return Fail(fmt::format("expected '{}'", word));
    }
    Place(std::move(value));
    return true;
  }

  bool ReadDigits() {
    if (at_ == end_ || !IsDigit(*at_)) return Fail("expected a digit");
    while (at_ != end_ && IsDigit(*at_)) ++at_;
    return true;
  }

  bool ReadNumber() {
    const char* begin = at_;
    const bool is_negative = Take('-');
    if (at_ == end_ || !IsDigit(*at_)) return Fail(is_negative ? "expected a digit" : "expected a value");
    if (!Take('0') && !ReadDigits()) return false;
    bool is_integer = true;
    if (Take('.')) {
      is_integer = false;
      if (!ReadDigits()) return false;
    }
    if (Take('e') || Take('E')) {
      is_integer = false;
      if (!Take('+')) Take('-');
      if (!ReadDigits()) return false;
    }
    const std::string_view digits(begin, static_cast<size_t>(at_ - begin));
    if (digits.size() > kMaxNumberBytes) {
      return Refuse("a number has {} digits, at most {} are taken", digits.size(), kMaxNumberBytes);
    }
    Place(ToNumber(digits, is_integer));
    return true;
  }

  static Json ToNumber(std::string_view digits, bool is_integer) {
    int64_t value = 0;
    if (is_integer && digits != "-0" &&
        std::from_chars(digits.data(), digits.data() + digits.size(), value).ec == std::errc()) {
      return Json(value);
    }
    return Json::Number(std::string(digits));
  }

  // A quoted string; at_ stands at its first quote.
  bool ReadString(std::string* value) {
    ++at_;
    for (;;) {
      const char* run = at_;
      if (!SkipPlain()) return false;
      value->append(run, at_);
      if (Take('"')) return true;
      do {
        if (!ReadEscape(value)) return false;
      } while (at_ != end_ && *at_ == '\\');
    }
  }

  // To the next quote or backslash; false at what may not stand in a string.
  bool SkipPlain() {
    for (;;) {
      for (uint64_t word = 0; end_ - at_ >= 8; at_ += 8) {
        std::memcpy(&word, at_, 8);
        if (HasSpecial(word)) break;
      }
      // What is special is among the next 8 bytes, or the text ends within them.
      for (const char* next = at_ + std::min<ptrdiff_t>(8, end_ - at_); at_ < next;) {
        const auto c = static_cast<unsigned char>(*at_);
        if (c == '"' || c == '\\') return true;
        if (c < 0x20) return Fail("expected '\"' or an escaped control character in a string");
        if (c < 0x80) {
          ++at_;
          continue;
        }
        const text::Utf8Part part =
            text::NextUtf8(std::string_view(at_, static_cast<size_t>(end_ - at_)));
        if (!part.valid) return Fail("expected valid UTF-8 in a string");
        at_ += part.length;
      }
      if (at_ == end_) return Fail("expected '\"' at the end of a string");
    }
  }

  bool ReadEscape(std::string* value) {
    ++at_;
    if (at_ == end_) return Fail("expected an escaped character");
    if (*at_ == 'u') {
      ++at_;
      return ReadUnicodeEscape(value);
    }
    const char meaning = kMeanings[static_cast<unsigned char>(*at_)];
    if (meaning == 0) return Fail("expected one of \"\\/bfnrtu after a backslash");
    ++at_;
    value->push_back(meaning);
    return true;
  }

  bool ReadHex(uint32_t* unit) {
    *unit = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = at_ == end_ ? ' ' : *at_;
      const int digit = IsDigit(c)              ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return Fail("expected four hexadecimal digits after \\u");
      *unit = *unit * 16 + static_cast<uint32_t>(digit);
    }
    return true;
  }

  // Behind "\u": one unit of UTF-16, or two that are a surrogate pair.
  bool ReadUnicodeEscape(std::string* value) {
    uint32_t c = 0;
    if (!ReadHex(&c)) return false;
    if (c >= 0xd800 && c < 0xe000) {
      uint32_t low = 0;
      if (c >= 0xdc00 || !Take('\\') || !Take('u')) return Fail("expected a surrogate pair");
      if (!ReadHex(&low)) return false;
      if (low < 0xdc00 || low >= 0xe000) return Fail("expected the second half of a surrogate pair");
      c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    text::AppendCharacter(c, value);
    return true;
  }

  const char* const begin_;
  const char* at_;
  const char* const end_;
  const JsonLimits& limits_;
  std::vector<Json> stack_;
  Json root_;
  int64_t num_values_ = 0;
  std::string error_;
};

}  // namespace

Expected<Json> ParseJson(std::string_view text, const JsonLimits& limits, int64_t* num_values) {
  if (text.size() > kMaxJsonBytes) {
    return Unexpected(InvalidArgument("JSON is too large: it has {} bytes, at most {} are taken",
                                      text.size(), kMaxJsonBytes));
  }
  Reader reader(text, limits);
  Expected<Json> json = reader.Read();
  if (num_values != nullptr) *num_values = reader.num_values();
  return json;
}

}  // namespace tiercel::api
