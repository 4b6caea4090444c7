// ReasoningParser: tells what a model thinks from what it says, in a text that grows. As vLLM's qwen3
// and deepseek_r1, but without the line breaks that stand between the two.
#pragma once

#include <string>
#include <string_view>

#include "text/tags.h"

namespace tiercel::text {

// The text up to </think> is thought, after a <think> that the model may write first; where there are tools a call
// ends the thought as well. Without </think> all is thought. Thoughts of blanks alone are none.
class ReasoningParser {
 public:
  struct Piece {
    std::string reasoning, content;
  };

  // `thinking`: the text begins with thought. Else all of it is content, tags included.
  explicit ReasoningParser(bool thinking, bool has_tools = false)
      : state_(thinking ? State::kOpening : State::kPlain), has_tools_(has_tools) {}

  // Takes more text, returns what is now certain; what may still become a tag is held back.
  Piece Read(std::string_view text);
  // The end: returns what was held back.
  Piece Finish();

  bool holds_back() const { return !held_.empty(); }
  bool thinking() const { return state_ == State::kOpening || state_ == State::kThinking; }

 private:
  enum class State { kOpening, kThinking, kAnswering, kPlain };

  bool ReadOpening();
  void ReadThought(Piece* piece);
  void ReadAnswer(Piece* piece);
  void AddAnswer(std::string_view text, Piece* piece);

  State state_;
  const bool has_tools_;
  std::string held_;           // not decided yet
  LeadingBlanks blanks_;       // of the thought
  bool has_answered_ = false;  // something was said
};

// Whether the answer to a rendered prompt begins with thought. A prompt that ends within, or behind,
// a thought says so itself; for any other it is `otherwise`.
bool BeginsWithThought(std::string_view prompt, bool otherwise);

}  // namespace tiercel::text
