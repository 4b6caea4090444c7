#include "serving/serve_checks.h"

#include <algorithm>
#include <string_view>

namespace tiercel::serving {
namespace {

using options::Effect;
using options::OptionSpec;

// Flags of which some values only are offered.
struct OfferedValues {
  std::string_view flag;
  std::vector<std::string_view> values;
  std::string_view reason;
};
const OfferedValues kOfferedValues[] = {
    {"runner", {"auto", "generate", "pooling"}, "there are no draft models"},
    {"convert", {"auto", "none", "embed", "classify"}, "hidden states become vectors or labels"},
    {"task",
     {"auto", "generate", "embed", "embedding", "classify", "score"},
     "models give tokens, vectors or labels"},
    {"kv-cache-dtype", {"auto", "bfloat16", "int8", "fp8", "fp8_e4m3"}, "the CPU has no arithmetic for the others"},
    {"load-format", {"auto", "hf", "safetensors", "gguf", "dummy", "packed"}, "files of no other form are read"},
    {"tokenizer-mode", {"auto", "hf", "slow"}, "there is one tokenizer, that of tokenizer.json"},
    {"config-format", {"auto", "hf"}, "config.json is read"},
};

template <typename List>
std::string Join(const List& list) {
  std::string text;
  for (const auto& item : list) {
    if (!item.empty()) text += fmt::format("{}{}", text.empty() ? "" : ", ", item);
  }
  return text;
}

Status CheckEnvironment(const ParsedOptions& options, const Environ& environ,
                        std::vector<std::string>* warnings) {
  RETURN_IF_ERROR(options::CheckEnvironValues(environ));
  options::EnvReport report = options::CheckEnviron(environ);
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

Status CheckOfferedValues(const ParsedOptions& options) {
  for (const OfferedValues& offered : kOfferedValues) {
    const std::string value = options.String(offered.flag);
    if (std::find(offered.values.begin(), offered.values.end(), value) == offered.values.end()) {
      return InvalidArgument("argument --{}: '{}' is not supported ({}); offered: {}", offered.flag,
                             value, offered.reason, Join(offered.values));
    }
  }
  return OkStatus();
}

Status CheckCombinations(const ParsedOptions& options) {
  if (options.String("ssl-certfile").empty() != options.String("ssl-keyfile").empty()) {
    return InvalidArgument("--ssl-certfile and --ssl-keyfile must be given together");
  }
  return OkStatus();
}

}  // namespace

Status CheckEffects(const ParsedOptions& options, std::vector<std::string>* warnings) {
  for (const OptionSpec* spec : options.NonDefault()) {
    if (spec->effect == Effect::kRefused) {
      const std::string_view help = spec->help;
      return InvalidArgument("argument {}: not supported; start without it ({})", spec->Display(),
                             help.substr(0, help.find_last_not_of('.') + 1));
    }
    if (spec->effect == Effect::kNone) {
      warnings->push_back(
          fmt::format("--{} has no effect here: {}", spec->name(), spec->help));
    }
  }
  return OkStatus();
}

Status CheckServeOptions(const ParsedOptions& options, const Environ& environ,
                         std::vector<std::string>* warnings) {
  RETURN_IF_ERROR(CheckCombinations(options));
  RETURN_IF_ERROR(CheckOfferedValues(options));
  RETURN_IF_ERROR(CheckEffects(options, warnings));
  return CheckEnvironment(options, environ, warnings);
}

}  // namespace tiercel::serving
