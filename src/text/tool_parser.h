// ToolParser: the tool calls in a text that grows, in one of the forms in which models write them.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::text {

// What a call has grown by. The first piece of each call has its name. The arguments of all pieces
// together are a JSON object, as far as the model has written one.
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
  virtual ~ToolParser() = default;

  // Takes more text, returns what is now certain. If what begins like a first call is none, it is content
  // with all that follows.
  virtual Piece Read(std::string_view text) = 0;
  // The end. A call whose arguments have begun stays as it is.
  virtual Piece Finish() = 0;
  virtual size_t num_calls() const = 0;
};

// The types of the functions' parameters, for forms that do not show them. Immutable.
class ToolTypes {
 public:
  virtual ~ToolTypes() = default;
  // Whether a parameter's text is its value, whatever it says. What is not known is.
  virtual bool IsText(std::string_view function, std::string_view parameter) const = 0;
  // The JSON value that the text of another parameter stands for.
  virtual std::string ToJson(std::string_view function, std::string_view parameter,
                             std::string_view text) const = 0;
};

enum class ToolFormat {
  kHermes,      // json_call_parser.h
  kLlama3Json,  // json_call_parser.h
  kQwen3Coder,  // xml_call_parser.h
  kPythonic,    // pythonic_call_parser.h
};

// By the names of --tool-call-parser; nullopt: none of them. And the names, for messages.
std::optional<ToolFormat> FindToolFormat(std::string_view name);
std::string ToolFormatNames();

// `max_calls`: further calls are left out. `types`: of kQwen3Coder; null: all is text.
std::unique_ptr<ToolParser> NewToolParser(ToolFormat format, size_t max_calls,
                                          std::shared_ptr<const ToolTypes> types);

}  // namespace tiercel::text
