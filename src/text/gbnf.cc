#include "text/gbnf.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "text/utf8.h"

namespace tiercel::text {

namespace {

constexpr int kMaxRuleDepth = 64;

bool IsNameByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

// A character in a regular expression.
std::string Escaped(uint32_t c) { return fmt::format("\\u{{{:x}}}", c); }

class Converter {
 public:
  explicit Converter(std::string_view text) : text_(text) {}

  Expected<std::string> Convert() {
    SkipBlanks();
    while (at_ < text_.size()) {
      if (!ReadRule()) return Unexpected(InvalidArgument("line {}: {}", Line(), error_));
      SkipBlanks();
    }
    if (!defined_.contains("root")) {
      return Unexpected(InvalidArgument("there is no rule `root`"));
    }
    for (const auto& [name, lark_name] : names_) {
      if (!defined_.contains(name)) {
        return Unexpected(InvalidArgument("rule `{}` is used and not defined", name));
      }
    }
    return std::move(out_);
  }

 private:
  bool Fail(std::string error) {
    error_ = std::move(error);
    return false;
  }

  int64_t Line() const {
    return 1 + std::count(text_.begin(), text_.begin() + static_cast<int64_t>(std::min(at_, text_.size())), '\n');
  }

  void SkipBlanks() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        ++at_;
      } else {
        return;
      }
    }
  }

  bool Take(std::string_view what) {
    if (!text_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }

  std::string_view Name() {
    const size_t begin = at_;
    while (at_ < text_.size() && IsNameByte(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  // A rule's name in Lark: GBNF's may have what Lark's may not.
  std::string& LarkName(std::string_view name) {
    std::string& lark_name = names_[std::string(name)];
    if (lark_name.empty()) {
      lark_name = name == "root" ? "start" : fmt::format("r{}", names_.size());
    }
    return lark_name;
  }

  bool ReadRule() {
    const std::string_view name = Name();
    if (name.empty()) return Fail("expected a rule's name");
    SkipBlanks();
    if (!Take("::=")) return Fail(fmt::format("expected `::=` behind `{}`", name));
    if (!defined_.emplace(name, true).second) {
      return Fail(fmt::format("rule `{}` is defined twice", name));
    }
    out_ += LarkName(name) + ":";
    if (!ReadAlternatives(0)) return false;
    out_ += '\n';
    return true;
  }

  // Up to the next rule, a closing parenthesis or the end.
  bool ReadAlternatives(int depth) {
    if (depth > kMaxRuleDepth) return Fail(fmt::format("nested deeper than {} levels", kMaxRuleDepth));
    while (true) {
      SkipBlanks();
      if (at_ == text_.size() || text_[at_] == ')') return true;
      if (Take("|")) {
        out_ += " |";
        continue;
      }
      const size_t element = out_.size();
      if (IsNameByte(text_[at_]) && text_[at_] != '.') {
        const size_t begin = at_;
        const std::string_view name = Name();
        SkipBlanks();
        if (text_.substr(at_).starts_with("::=")) {
          at_ = begin;
          return depth == 0 || Fail("expected `)`");
        }
        at_ = begin + name.size();
        out_ += " " + LarkName(name);
      } else if (!ReadElement(depth)) {
        return false;
      }
      if (!ReadRepetition(element)) return false;
    }
  }

  bool ReadElement(int depth) {
    if (Take("(")) {
      out_ += " (";
      if (!ReadAlternatives(depth + 1)) return false;
      if (!Take(")")) return Fail("expected `)`");
      out_ += " )";
      return true;
    }
    if (Take("\"")) return ReadLiteral();
    if (Take("[")) return ReadClass();
    if (Take(".")) {
      out_ += " /(?s:.)/";
      return true;
    }
    return Fail(fmt::format("`{}` begins nothing that is known", text_[at_]));
  }

  // `{0}` or `{0,0}`, which Lark does not have.
  static bool IsNoTimes(std::string_view count) {
    return count.find('0') != std::string_view::npos && count.find_first_not_of("0, ") == std::string_view::npos &&
           (count.find(',') == std::string_view::npos || count.find('0', count.find(',')) != std::string_view::npos);
  }

  // Of what has been written from `element` on.
  bool ReadRepetition(size_t element) {
    if (at_ == text_.size()) return true;
    const char c = text_[at_];
    if (c == '*' || c == '+' || c == '?') {
      out_ += c;
      ++at_;
    } else if (Take("{")) {
      const size_t end = text_.find('}', at_);
      const std::string_view count = text_.substr(at_, end == std::string_view::npos ? 0 : end - at_);
      if (count.empty() || count.size() > 16 ||
          count.find_first_not_of("0123456789, ") != std::string_view::npos) {
        return Fail("expected `{m}`, `{m,}` or `{m,n}`");
      }
      if (IsNoTimes(count)) {
        out_.resize(element);
      } else {
        out_ += fmt::format("{{{}}}", count);
      }
      at_ = end + 1;
    }
    return true;
  }

  // One character of a literal or a class, which may be escaped.
  std::optional<uint32_t> ReadCharacter() {
    if (at_ == text_.size()) return std::nullopt;
    if (text_[at_] != '\\') {
      const Utf8Part part = NextUtf8(text_.substr(at_));
      if (!part.valid) return std::nullopt;
      constexpr uint8_t kLeadBits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
      uint32_t c = static_cast<uint8_t>(text_[at_]) & kLeadBits[part.length];
      for (size_t i = 1; i < part.length; ++i) {
        c = c << 6 | (static_cast<uint8_t>(text_[at_ + i]) & 0x3f);
      }
      at_ += part.length;
      return c;
    }
    if (++at_ == text_.size()) return std::nullopt;
    const char kind = text_[at_++];
    switch (kind) {
      case 'n': return '\n';
      case 'r': return '\r';
      case 't': return '\t';
      case 'x': return ReadHex(2);
      case 'u': return ReadHex(4);
      case 'U': return ReadHex(8);
      default: break;
    }
    const bool is_punctuation = kind > ' ' && kind < 0x7f && std::isalnum(static_cast<unsigned char>(kind)) == 0;
    if (!is_punctuation) return std::nullopt;
    return static_cast<uint32_t>(kind);
  }

  std::optional<uint32_t> ReadHex(int digits) {
    uint32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const size_t digit =
          at_ < text_.size() ? std::string_view("0123456789abcdefABCDEF").find(text_[at_]) : 99;
      if (digit >= 22) return std::nullopt;
      value = value << 4 | static_cast<uint32_t>(digit < 16 ? digit : digit - 6);
    }
    if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return std::nullopt;
    return value;
  }

  // Behind the opening quote. Written as a regular expression, whose escapes are known for every character.
  bool ReadLiteral() {
    std::string regex;
    while (!Take("\"")) {
      const auto c = ReadCharacter();
      if (!c) return Fail("a literal has no end, or an escape that is not known");
      regex += Escaped(*c);
    }
    // Nothing, in a rule of Lark.
    out_ += regex.empty() ? " ( | )" : " /" + regex + "/";
    return true;
  }

  // Behind the opening bracket.
  bool ReadClass() {
    std::string regex = Take("^") ? "[^" : "[";
    bool is_empty = true;
    while (!Take("]")) {
      const auto first = ReadCharacter();
      if (!first) return Fail("a class of characters has no end, or an escape that is not known");
      regex += Escaped(*first);
      is_empty = false;
      if (text_.substr(at_).starts_with("-") && !text_.substr(at_).starts_with("-]")) {
        ++at_;
        const auto last = ReadCharacter();
        if (!last || *last < *first) return Fail("a class of characters has a range that is none");
        regex += "-" + Escaped(*last);
      }
    }
    if (is_empty) return Fail("a class of characters is empty");
    out_ += " /" + regex + "]/";
    return true;
  }

  const std::string_view text_;
  size_t at_ = 0;
  std::map<std::string, std::string, std::less<>> names_;  // GBNF's to Lark's
  std::map<std::string, bool, std::less<>> defined_;
  std::string out_;
  std::string error_;
};

}  // namespace

// A line begins with a rule's name and `::=`: these may also stand within a literal of Lark.
bool IsGbnf(std::string_view grammar) {
  constexpr std::string_view kBlanks = " \t";
  while (!grammar.empty()) {
    std::string_view line = grammar.substr(0, grammar.find('\n'));
    grammar.remove_prefix(std::min(grammar.size(), line.size() + 1));
    line.remove_prefix(std::min(line.size(), line.find_first_not_of(kBlanks)));
    const auto name = std::find_if_not(line.begin(), line.end(), IsNameByte) - line.begin();
    if (name == 0) continue;
    line.remove_prefix(static_cast<size_t>(name));
    line.remove_prefix(std::min(line.size(), line.find_first_not_of(kBlanks)));
    if (line.starts_with("::=")) return true;
  }
  return false;
}

Expected<std::string> GbnfToLark(std::string_view gbnf) { return Converter(gbnf).Convert(); }

}  // namespace tiercel::text
