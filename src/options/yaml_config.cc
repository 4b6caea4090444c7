#include "options/yaml_config.h"

#include <yaml-cpp/yaml.h>

#include "options/human_int.h"
#include "options/json_value.h"

namespace tiercel::options {
namespace {

constexpr int kMaxYamlDepth = 32;

// A plain YAML scalar as JSON: numbers, booleans and null as such, anything else a string.
std::string ScalarToJson(const YAML::Node& node) {
  const std::string text = node.Scalar();
  if (node.Tag() == "!") return JsonQuote(text);  // quoted in the file
  if (text == "true" || text == "false" || text == "null") return text;
  if (text == "~") return "null";
  if (auto number = ParseInt(text)) return std::to_string(*number);
  if (ParseFloat(text) && text.find_first_of("xX") == std::string::npos) {
    return fmt::format("{}", *ParseFloat(text));
  }
  return JsonQuote(text);
}

Expected<std::string> ToJson(const YAML::Node& node, int depth) {
  if (depth > kMaxYamlDepth) {
    return Unexpected(InvalidArgument("line {}: nested deeper than {}", node.Mark().line + 1,
                                      kMaxYamlDepth));
  }
  std::string text;
  if (node.IsMap()) {
    for (const auto& member : node) {
      ASSIGN_OR_RETURN(const std::string value, ToJson(member.second, depth + 1));
      text += (text.empty() ? "" : ",") + JsonQuote(member.first.Scalar()) + ":" + value;
    }
    return "{" + text + "}";
  }
  if (node.IsSequence()) {
    for (const auto& item : node) {
      ASSIGN_OR_RETURN(const std::string value, ToJson(item, depth + 1));
      text += (text.empty() ? "" : ",") + value;
    }
    return "[" + text + "]";
  }
  return node.IsNull() ? "null" : ScalarToJson(node);
}

Status AppendWords(const std::string& key, const YAML::Node& value,
                   std::vector<std::string>* words) {
  if (value.IsNull()) return OkStatus();
  if (value.IsSequence()) {
    words->push_back("--" + key);
    for (const auto& item : value) {
      if (item.IsScalar()) {
        words->push_back(item.Scalar());
        continue;
      }
      ASSIGN_OR_RETURN(std::string json, ToJson(item, 0));
      words->push_back(std::move(json));
    }
    return OkStatus();
  }
  if (value.IsMap()) {
    ASSIGN_OR_RETURN(std::string json, ToJson(value, 0));
    words->insert(words->end(), {"--" + key, std::move(json)});
    return OkStatus();
  }
  const std::string text = value.Scalar();
  const bool quoted = value.Tag() == "!";
  if (!quoted && (text == "true" || text == "True")) {
    words->push_back("--" + key);
  } else if (!quoted && (text == "false" || text == "False")) {
    words->push_back("--no-" + key);
  } else {
    words->insert(words->end(), {"--" + key, text});
  }
  return OkStatus();
}

}  // namespace

Expected<std::vector<std::string>> ReadConfigFile(const std::string& path) {
  if (!path.ends_with(".yaml") && !path.ends_with(".yml")) {
    return Unexpected(InvalidArgument(
        "Config file must be of a yaml/yml type. {} supplied", path));
  }
  try {
    const YAML::Node root = YAML::LoadFile(path);
    if (root.IsNull()) return std::vector<std::string>{};
    if (!root.IsMap()) {
      return Unexpected(InvalidArgument("{}: expected a map of flag names to values", path));
    }
    std::vector<std::string> words;
    for (const auto& member : root) {
      if (!member.first.IsScalar()) {
        return Unexpected(InvalidArgument("{}:{}: a key must be a flag's name", path,
                                          member.first.Mark().line + 1));
      }
      if (Status status = AppendWords(member.first.Scalar(), member.second, &words);
          !status.ok()) {
        return Unexpected(InvalidArgument("{}: {}", path, status.message()));
      }
    }
    return words;
  } catch (const YAML::BadFile&) {
    return Unexpected(NotFound("{}: the config file cannot be read", path));
  } catch (const YAML::Exception& error) {
    return Unexpected(InvalidArgument("{}:{}: {}", path, error.mark.line + 1, error.msg));
  }
}

}  // namespace tiercel::options
