#include "text/tool_parser.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "text/json_call_parser.h"
#include "text/pythonic_call_parser.h"
#include "text/xml_call_parser.h"

namespace tiercel::text {
namespace {

constexpr struct {
  std::string_view name;
  ToolFormat format;
} kFormats[] = {
    {"hermes", ToolFormat::kHermes},
    {"qwen3_json", ToolFormat::kHermes},
    {"qwen3_coder", ToolFormat::kQwen3Coder},
    {"qwen3_xml", ToolFormat::kQwen3Coder},
    {"llama3_json", ToolFormat::kLlama3Json},
    {"llama4_json", ToolFormat::kLlama3Json},
    {"pythonic", ToolFormat::kPythonic},
    {"llama4_pythonic", ToolFormat::kPythonic},
};

}  // namespace

std::optional<ToolFormat> FindToolFormat(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kFormats), std::end(kFormats),
                                         [&](const auto& entry) { return entry.name == name; });
  if (found == std::end(kFormats)) return std::nullopt;
  return found->format;
}

std::string ToolFormatNames() {
  std::string names;
  for (const auto& entry : kFormats) names.append(names.empty() ? "" : ", ").append(entry.name);
  return names;
}

std::unique_ptr<ToolParser> NewToolParser(ToolFormat format, size_t max_calls,
                                          std::shared_ptr<const ToolTypes> types) {
  switch (format) {
    case ToolFormat::kLlama3Json: return std::make_unique<Llama3JsonParser>(max_calls);
    case ToolFormat::kQwen3Coder: return std::make_unique<XmlCallParser>(max_calls, std::move(types));
    case ToolFormat::kPythonic: return std::make_unique<PythonicCallParser>(max_calls);
    case ToolFormat::kHermes: break;
  }
  return std::make_unique<HermesParser>(max_calls);
}

}  // namespace tiercel::text
