#include "tools/serve_checks.h"

#include <algorithm>
#include <string_view>

namespace tiercel::tools {
namespace {

constexpr std::string_view kToolParsers[] = {"hermes", "qwen3_coder", "qwen3_json", "qwen3_xml"};
constexpr std::string_view kReasoningParsers[] = {"deepseek_r1", "qwen3"};

template <typename List>
std::string Join(const List& list) {
  std::string text;
  for (const auto& item : list) text += fmt::format("{}{}", text.empty() ? "" : ", ", item);
  return text;
}

// Flags that are understood and not offered are refused, those without effect are named once.
Status CheckEffects(const ParsedOptions& options, std::vector<std::string>* warnings) {
  for (const OptionSpec* spec : options.NonDefault()) {
    if (spec->effect == Effect::kLater) {
      return InvalidArgument("argument {}: not offered: {}", spec->Display(), spec->help);
    }
    if (spec->effect == Effect::kNone) {
      warnings->push_back(
          fmt::format("--{} has no effect here: {}", spec->name(), spec->help));
    }
  }
  return OkStatus();
}

Status CheckEnvironment(const ParsedOptions& options, const Environ& environ,
                        std::vector<std::string>* warnings) {
  EnvReport report = CheckEnviron(environ);
  if (!report.unknown.empty() && options.On("fail-on-environ-validation")) {
    return InvalidArgument("Unknown vLLM environment variable detected: {}",
                           Join(report.unknown));
  }
  for (const std::string& name : report.unknown) {
    warnings->push_back("Unknown vLLM environment variable detected: " + name);
  }
  warnings->insert(warnings->end(), report.notices.begin(), report.notices.end());
  return OkStatus();
}

template <size_t n>
Status CheckParser(const ParsedOptions& options, std::string_view flag, std::string_view kind,
                   const std::string_view (&known)[n]) {
  const std::string value = options.String(flag);
  if (value.empty() || std::find(std::begin(known), std::end(known), value) != std::end(known)) {
    return OkStatus();
  }
  return InvalidArgument("invalid {} parser: {} (chose from {{ {} }})", kind, value, Join(known));
}

// Rules between flags, with vLLM's messages.
Status CheckCombinations(const ParsedOptions& options) {
  RETURN_IF_ERROR(CheckParser(options, "tool-call-parser", "tool call", kToolParsers));
  RETURN_IF_ERROR(CheckParser(options, "reasoning-parser", "reasoning", kReasoningParsers));
  if (options.On("enable-auto-tool-choice") && options.String("tool-call-parser").empty()) {
    return InvalidArgument("Error: --enable-auto-tool-choice requires --tool-call-parser");
  }
  if (options.On("enable-log-outputs") && !options.On("enable-log-requests")) {
    return InvalidArgument("Error: --enable-log-outputs requires --enable-log-requests");
  }
  if (options.String("ssl-certfile").empty() != options.String("ssl-keyfile").empty()) {
    return InvalidArgument("--ssl-certfile and --ssl-keyfile must be given together");
  }
  for (const char* flag : {"runner", "convert"}) {
    const std::string value = options.String(flag);
    if (value == "auto" || value == "generate" || value == "none") continue;
    return InvalidArgument("argument --{}: '{}' is not offered: only generation is", flag, value);
  }
  const std::string kv_dtype = options.String("kv-cache-dtype");
  if (kv_dtype != "auto" && kv_dtype != "bfloat16" && kv_dtype != "int8") {
    return InvalidArgument(
        "argument --kv-cache-dtype: '{}' is not offered: auto, bfloat16 or int8 are", kv_dtype);
  }
  return OkStatus();
}

}  // namespace

Status CheckServeOptions(const ParsedOptions& options, const Environ& environ,
                         std::vector<std::string>* warnings) {
  RETURN_IF_ERROR(CheckCombinations(options));
  RETURN_IF_ERROR(CheckEffects(options, warnings));
  return CheckEnvironment(options, environ, warnings);
}

}  // namespace tiercel::tools
