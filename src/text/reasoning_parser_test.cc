#include "text/reasoning_parser.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace tiercel::text {
namespace {

struct Case {
  bool thinking;
  const char* text;
  const char* reasoning;
  const char* content;
};

// Of vLLM's parser of Qwen3 (tests of its repository and reports), without line breaks around tags.
constexpr Case kCases[] = {
    {true, "<think>\nabc\n</think>\n\nxyz", "\nabc\n", "xyz"},
    {true, "abc</think>\n\nxyz", "abc", "xyz"},           // <think> is in the prompt
    {true, "<think>\n\n</think>\n\nok", "", "ok"},        // /no_think
    {true, "\n<think>a</think>b", "a", "b"},
    {true, "abc", "abc", ""},                             // cut by its length
    {true, "<think>abc</thi", "abc</thi", ""},
    {true, "<thi", "<thi", ""},
    {true, " ", "", ""},
    {true, "a</think>b</think>c", "a", "b</think>c"},
    {true, "a</think>\n</think>\n\n</think>", "a", ""},
    {true, "a</think>\nClose it with `</think>`.", "a", "Close it with `</think>`."},
    {true, "a</think>\n</thin</think>b", "a", "</thin</think>b"},
    {true, "a<tool_call>{\"h\": \"</think>\"}", "a", "<tool_call>{\"h\": \"</think>\"}"},
    {true, "a</think>\n\n</think>b", "a", "b"},
    {true, "a<tool_call>{}", "a", "<tool_call>{}"},
    {true, "a</think>\n<tool_call>{}", "a", "<tool_call>{}"},
    {true, "a < b </ c<think>d</think> e", "a < b </ c<think>d", " e"},
    {true, "a</think>b</thi", "a", "b</thi"},
    {false, "<think>a</think>b", "", "<think>a</think>b"},
    {false, "\n\nb", "", "\n\nb"},
    {true, "思考</think>答案", "思考", "答案"},
};

TEST(ReasoningParser, TellsThoughtFromAnswerWhereverTheTextIsCut) {
  std::mt19937 random(1);
  for (const Case& c : kCases) {
    const std::string text = c.text;
    for (int round = 0; round < 200; ++round) {
      ReasoningParser parser(c.thinking, /*has_tools=*/true);
      std::string reasoning, content;
      const auto add = [&](const ReasoningParser::Piece& piece) {
        reasoning += piece.reasoning;
        content += piece.content;
      };
      for (size_t at = 0; at < text.size();) {
        const size_t size = round == 0 ? 1 : round == 1 ? text.size() : 1 + random() % 7;
        add(parser.Read(std::string_view(text).substr(at, size)));
        at += size;
      }
      add(parser.Finish());
      ASSERT_EQ(reasoning, c.reasoning) << text;
      ASSERT_EQ(content, c.content) << text;
    }
  }
}

TEST(ReasoningParser, WithoutToolsNoCallEndsAThought) {
  ReasoningParser parser(true);
  const ReasoningParser::Piece piece = parser.Read("a <tool_call> is how</think>so");
  EXPECT_EQ(piece.reasoning, "a <tool_call> is how");
  EXPECT_EQ(piece.content, "so");
}

TEST(ReasoningParser, HoldsBackNoMoreThanATag) {
  ReasoningParser parser(true);
  EXPECT_EQ(parser.Read("I think").reasoning, "I think");
  EXPECT_EQ(parser.Read(" a </t").reasoning, " a ");
  EXPECT_EQ(parser.Read("able>").reasoning, "</table>");
  EXPECT_EQ(parser.Read("</think>so").content, "so");
}

TEST(ReasoningParser, APromptSaysWhereItEnds) {
  EXPECT_TRUE(BeginsWithThought("<|im_start|>assistant\n<think>\n", false));
  EXPECT_FALSE(BeginsWithThought("<|im_start|>assistant\n<think>\n\n</think>\n\n", true));
  EXPECT_TRUE(BeginsWithThought("<|im_start|>assistant\n", true));
  EXPECT_FALSE(BeginsWithThought("", false));
}

}  // namespace
}  // namespace tiercel::text
