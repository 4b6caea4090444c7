// Calls in the form of Qwen3-Coder:
//
//   content <tool_call>
//   <function=f>
//   <parameter=a>
//   text
//   </parameter>
//   </function>
//   </tool_call>
//
// One line break at each end of a value belongs to the tags. What a value's text stands for is said by the
// parameter's type; the text of a string comes while it is written.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "text/tags.h"
#include "text/tool_parser.h"

namespace tiercel::text {

class XmlCallParser final : public ToolParser {
 public:
  XmlCallParser(size_t max_calls, std::shared_ptr<const ToolTypes> types)
      : max_calls_(max_calls), types_(std::move(types)) {}

  Piece Read(std::string_view text) override;
  Piece Finish() override;
  size_t num_calls() const override { return num_calls_; }

 private:
  enum class State {
    kContent,
    kBeforeFunction,  // behind <tool_call>
    kName,
    kBetweenParameters,
    kKey,
    kValue,
    kBetweenCalls,
    kPlain,  // all the rest is content
  };

  // Each takes a beginning of held_, and is false where it needs more text.
  bool Step(Piece* piece);
  bool ReadContent(Piece* piece);
  bool ReadBeforeFunction(Piece* piece);
  bool ReadName(Piece* piece);
  bool ReadBetweenParameters(Piece* piece);
  bool ReadKey(Piece* piece);
  bool ReadValue(Piece* piece);
  void AddText(std::string_view text, Piece* piece);
  void EndValue(Piece* piece);
  void EndCall(Piece* piece);
  void Add(std::string_view arguments, Piece* piece);

  const size_t max_calls_;
  const std::shared_ptr<const ToolTypes> types_;  // shared with the plan
  State state_ = State::kContent;
  std::string held_;        // text that has come and is not read yet
  std::string raw_;         // of what may be no call
  LeadingBlanks blanks_;    // of the content
  size_t num_calls_ = 0;
  std::string function_, key_;
  bool has_parameters_ = false;
  // Of the value that is read.
  bool is_text_ = false;
  bool value_begun_ = false;  // something of it has come
  bool began_ = false;        // its quote has been given
  std::string value_;                     // not given yet
};

}  // namespace tiercel::text
