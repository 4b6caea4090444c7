// Calls that are JSON objects with a name and arguments, in two forms:
//
//   Hermes, Qwen3:  content <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call> <tool_call>…
//   Llama 3:        {"name": "f", "parameters": {"a": 1}}; {…}     (perhaps behind <|python_tag|>)
//
// Arguments are given as the model writes them, byte for byte, while it writes them. They are followed
// only as far as it takes to find their end: that they are valid JSON is the model's part.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "text/tags.h"
#include "text/tool_parser.h"

namespace tiercel::text {

class JsonCallParser : public ToolParser {
 public:
  // What is no call behind a call is left out, as in vLLM.
  explicit JsonCallParser(size_t max_calls) : max_calls_(max_calls) {}

  Piece Read(std::string_view text) override;
  Piece Finish() override;
  size_t num_calls() const override { return num_calls_; }

 protected:
  enum class State {
    kContent,
    kBeforeObject, kBeforeKey, kKey, kBeforeColon, kBeforeValue, kValue,
    kBetweenCalls,
    kPlain,  // all the rest is content
  };

  // Of text outside of calls: what was read of it. In kContent or kBetweenCalls; may begin a call.
  virtual size_t ReadOutside(std::string_view text, Piece* piece) = 0;
  // `raw`: its text so far, which is content if it is no call after all.
  void BeginCall(std::string_view raw);
  bool TakesMore() const { return num_calls_ < max_calls_; }

  State state_ = State::kContent;
  std::string held_;      // what may become the beginning of a call
  LeadingBlanks blanks_;  // of the content

 private:
  enum class Member { kName, kArguments, kOther };

  // Whether an object with a name alone is a call without arguments.
  virtual bool MayLackArguments() const = 0;

  // One byte of a call. False: it is not the call's, which has ended before it.
  bool ReadByte(char c, Piece* piece);
  bool ReadValue(char c, Piece* piece);
  void EndKey();
  void EndValue();
  void ShowCall(Piece* piece);
  void AddArguments(std::string_view text, Piece* piece);
  void EndCall(Piece* piece);
  // The text is no call after all, or no more of one.
  void Break(Piece* piece);
  bool InCall() const { return state_ >= State::kBeforeObject && state_ <= State::kValue; }

  const size_t max_calls_;
  size_t num_calls_ = 0;         // whose name was given
  // The call that is being read.
  std::string raw_;              // its text, until its name is given
  std::string key_, value_;      // as they are written; value_ of the name alone
  std::string name_, arguments_;  // arguments_: that wait for the name
  Member member_ = Member::kOther;
  bool has_name_ = false, has_arguments_ = false, shown_ = false;
  int depth_ = 0;                // of brackets within the value
  bool in_string_ = false, escaped_ = false, is_scalar_ = false;
};

// Content is what stands before the first call; blanks alone are none.
class HermesParser final : public JsonCallParser {
 public:
  using JsonCallParser::JsonCallParser;

 private:
  bool MayLackArguments() const override { return true; }
  size_t ReadOutside(std::string_view text, Piece* piece) override;
};

// Calls are all that an answer has, or it has none. An object without arguments is an answer in JSON.
class Llama3JsonParser final : public JsonCallParser {
 public:
  using JsonCallParser::JsonCallParser;

 private:
  bool MayLackArguments() const override { return false; }
  size_t ReadOutside(std::string_view text, Piece* piece) override;

  size_t num_blanks_ = 0;  // at the front of held_
};

}  // namespace tiercel::text
