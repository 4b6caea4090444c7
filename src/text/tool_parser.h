// ToolParser: the tool calls in a text that grows, in the form of Hermes and Qwen3:
//
//   content <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call> <tool_call>…
//
// Arguments are given as the model writes them, byte for byte, while it writes them. They are followed
// only as far as it takes to find their end: that they are valid JSON is the model's part.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/tags.h"

namespace tiercel::text {

// What a call has grown by. The first piece of each call has its name.
struct ToolCallPiece {
  size_t index = 0;
  std::string name;
  std::string arguments;
};

class ToolParser {
 public:
  struct Piece {
    std::string content;
    std::vector<ToolCallPiece> calls;  // by index
  };

  // `max_calls`: further calls are left out.
  explicit ToolParser(size_t max_calls) : max_calls_(max_calls) {}

  // Takes more text, returns what is now certain. Content is what stands before the first call; blanks
  // alone are none. If the first is no call, though it begins like one, it is content with all that
  // follows. Behind a call, what is no call is left out, as in vLLM.
  Piece Read(std::string_view text);
  // The end. A call whose arguments have begun stays as it is.
  Piece Finish();

  size_t num_calls() const { return num_calls_; }

 private:
  enum class State {
    kContent,
    kBeforeObject, kBeforeKey, kKey, kBeforeColon, kBeforeValue, kValue,
    kBetweenCalls,
    kPlain,  // all the rest is content
  };
  enum class Member { kName, kArguments, kOther };

  // Of text outside of calls: what was read of it.
  size_t ReadOutside(std::string_view text, Piece* piece);
  void BeginCall();
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
  State state_ = State::kContent;
  std::string held_;             // what may become a tag
  LeadingBlanks blanks_;         // of the content
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

}  // namespace tiercel::text
