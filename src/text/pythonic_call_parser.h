// Calls in the form of Python: [f(a=1, b="x"), g()]. Values are Python's literals and become JSON. Calls are
// all that an answer has, or it has none. An argument is given when it is complete.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "text/tool_parser.h"

namespace tiercel::text {

class PythonicCallParser final : public ToolParser {
 public:
  explicit PythonicCallParser(size_t max_calls) : max_calls_(max_calls) {}

  Piece Read(std::string_view text) override;
  Piece Finish() override;
  size_t num_calls() const override { return num_calls_; }

 private:
  enum class State {
    kBegin,        // before '['
    kBeforeCall,   // behind '[' or ','
    kName,
    kBeforeKey,    // behind '(' or ','
    kKey,
    kValue,
    kBehindCall,   // behind ')'
    kEnd,          // behind ']': nothing more counts
    kPlain,        // all the rest is content
  };

  // False: the text is no call.
  bool ReadByte(char c, Piece* piece);
  bool ReadValue(char c, Piece* piece);
  bool EndValue(Piece* piece);
  void EndCall(Piece* piece);
  void Add(std::string_view arguments, Piece* piece);
  void Break(Piece* piece);

  const size_t max_calls_;
  State state_ = State::kBegin;
  std::string raw_;  // until the first call is shown
  size_t num_calls_ = 0;
  std::string name_, key_, value_;
  bool shown_ = false;  // the call's name was given
  bool has_arguments_ = false;
  // Within the value.
  int depth_ = 0;
  char quote_ = 0;
  bool escaped_ = false;
};

// A Python literal (numbers, strings, True, False, None, lists, tuples, dictionaries with text as keys) as
// JSON; nullopt if it is none, or nested deeper than 64 levels.
std::optional<std::string> PythonLiteralToJson(std::string_view text);

}  // namespace tiercel::text
