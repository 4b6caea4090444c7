#include "options/yaml_config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

#include "options/human_int.h"
#include "options/json_value.h"

namespace tiercel::options {
namespace {

constexpr int kMaxYamlDepth = 32;
// All flags with the largest JSON that a flag may hold are less.
constexpr size_t kMaxFileBytes = size_t{1} << 20;
// Of what the file says in the end: an alias stands for all of its anchor, as often as it is used.
constexpr int64_t kMaxValues = 65'536;
constexpr int64_t kMaxValueBytes = int64_t{4} << 20;

// What is left of those.
class Budget {
 public:
  Status Take(const YAML::Node& node) {
    values_ += 1;
    bytes_ += node.IsScalar() ? static_cast<int64_t>(node.Scalar().size()) : 0;
    if (values_ <= kMaxValues && bytes_ <= kMaxValueBytes) return OkStatus();
    return InvalidArgument("found more than {} values or {} bytes of them, counting an alias as all that it stands for",
                           kMaxValues, kMaxValueBytes);
  }

 private:
  int64_t values_ = 0, bytes_ = 0;
};

// Quoted in the file, or said to be one.
bool IsString(const YAML::Node& node) { return node.Tag() == "!" || node.Tag() == "tag:yaml.org,2002:str"; }

// PyYAML reads YAML 1.1, where these are booleans, in three spellings each.
std::optional<bool> BooleanOf(const YAML::Node& node) {
  if (!node.IsScalar() || IsString(node)) return std::nullopt;
  const std::string& text = node.Scalar();
  for (const char* word : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"}) {
    if (text == word) return true;
  }
  for (const char* word : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"}) {
    if (text == word) return false;
  }
  return std::nullopt;
}

// A plain YAML scalar as JSON: numbers, booleans and null as such, anything else a string.
std::string ScalarToJson(const YAML::Node& node) {
  const std::string text = node.Scalar();
  if (IsString(node)) return JsonQuote(text);
  if (const auto boolean = BooleanOf(node)) return *boolean ? "true" : "false";
  if (auto number = ParseInt(text)) return std::to_string(*number);
  if (ParseFloat(text) && text.find_first_of("xX") == std::string::npos) {
    return fmt::format("{}", *ParseFloat(text));
  }
  return JsonQuote(text);
}

Expected<std::string> ToJson(const YAML::Node& node, int depth, Budget* budget) {
  RETURN_IF_ERROR(budget->Take(node));
  if (depth > kMaxYamlDepth) {
    return Unexpected(InvalidArgument("line {}: nested deeper than {}", node.Mark().line + 1,
                                      kMaxYamlDepth));
  }
  std::string text;
  if (node.IsMap()) {
    for (const auto& member : node) {
      ASSIGN_OR_RETURN(const std::string value, ToJson(member.second, depth + 1, budget));
      RETURN_IF_ERROR(budget->Take(member.first));
      text += (text.empty() ? "" : ",") + JsonQuote(member.first.Scalar()) + ":" + value;
    }
    return "{" + text + "}";
  }
  if (node.IsSequence()) {
    for (const auto& item : node) {
      ASSIGN_OR_RETURN(const std::string value, ToJson(item, depth + 1, budget));
      text += (text.empty() ? "" : ",") + value;
    }
    return "[" + text + "]";
  }
  return node.IsNull() ? "null" : ScalarToJson(node);
}

// "no-x: false" turns x on, as it would in Python.
Status AppendSwitch(const OptionTable::Match& flag, const YAML::Node& value, std::vector<std::string>* words) {
  const auto boolean = BooleanOf(value);
  if (!boolean && value.IsScalar()) {
    return InvalidArgument("found {}{}, expected true or false", JsonQuote(value.Scalar()).substr(0, 64),
                           IsString(value) ? " in quotes" : "");
  }
  if (!boolean) return InvalidArgument("found a {}, expected true or false", value.IsMap() ? "map" : "list");
  const bool on = *boolean != flag.negated;
  const std::string name(flag.spec->name());
  if (on || flag.spec->kind == Kind::kSwitch) words->push_back((on ? "--" : "--no-") + name);
  return OkStatus();
}

Status AppendWords(const OptionTable& table, const std::string& key, const YAML::Node& value, Budget* budget,
                   std::vector<std::string>* words) {
  RETURN_IF_ERROR(budget->Take(value));
  if (value.IsNull()) return OkStatus();
  std::string name = "--" + key;
  std::replace(name.begin(), name.end(), '_', '-');
  ASSIGN_OR_RETURN(const OptionTable::Match flag, table.Resolve(name));
  if (flag.spec != nullptr && (flag.spec->kind == Kind::kSwitch || flag.spec->kind == Kind::kFlag)) {
    return AppendSwitch(flag, value, words);
  }
  if (value.IsSequence()) {
    words->push_back("--" + key);
    for (const auto& item : value) {
      if (item.IsScalar()) {
        RETURN_IF_ERROR(budget->Take(item));
        words->push_back(item.Scalar());
        continue;
      }
      ASSIGN_OR_RETURN(std::string json, ToJson(item, 0, budget));
      words->push_back(std::move(json));
    }
    return OkStatus();
  }
  if (value.IsMap()) {
    ASSIGN_OR_RETURN(std::string json, ToJson(value, 0, budget));
    words->insert(words->end(), {"--" + key, std::move(json)});
    return OkStatus();
  }
  const auto boolean = BooleanOf(value);
  if (boolean && flag.spec != nullptr) {
    return InvalidArgument("found {}, which YAML reads as {}; put it into quotes if the word is meant", value.Scalar(),
                           *boolean ? "true" : "false");
  }
  words->push_back("--" + key);
  // A dotted key is a value of a JSON object. Of an unknown flag the name alone is told.
  if (!boolean) words->push_back(value.Scalar());
  if (boolean && key.find('.') != std::string::npos) words->push_back(*boolean ? "true" : "false");
  return OkStatus();
}

// A pipe that nobody writes to, or a device without an end, would be waited for.
Expected<std::string> ReadFile(const std::string& path) {
  const auto failed = [&] {
    return Unexpected(NotFound("{}: the config file cannot be read: {}", path, std::strerror(errno)));
  };
  const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return failed();
  const std::unique_ptr<const int, void (*)(const int*)> closed(&fd, [](const int* open) { ::close(*open); });
  struct stat info {};
  if (::fstat(fd, &info) != 0) return failed();
  if (!S_ISREG(info.st_mode)) {
    return Unexpected(InvalidArgument("{}: the config file is no regular file", path));
  }
  std::string text(kMaxFileBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t count = ::read(fd, text.data() + size, text.size() - size);
    if (count < 0) return failed();
    if (count == 0) break;
    size += static_cast<size_t>(count);
  }
  if (size > kMaxFileBytes) {
    return Unexpected(InvalidArgument("{}: found more than {} bytes, expected a config file", path, kMaxFileBytes));
  }
  text.resize(size);
  return text;
}

// Unicode without control characters, as YAML is: yaml-cpp would take one of them for the end.
Status CheckText(const std::string& path, const std::string& text) {
  int number = 1;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line(text.data() + begin, end - begin);
    if (!IsUtf8(line)) return InvalidArgument("{}:{}: found bytes that are no UTF-8", path, number);
    for (const char c : line) {
      if ((c >= 0 && c < ' ' && c != '\t' && c != '\r') || c == '\x7f') {
        return InvalidArgument("{}:{}: found a control character, 0x{:02x}", path, number, static_cast<int>(c));
      }
    }
    begin = end + 1;
  }
  return OkStatus();
}

}  // namespace

Expected<std::vector<std::string>> ReadConfigFile(const std::string& path, const OptionTable& table) {
  if (!path.ends_with(".yaml") && !path.ends_with(".yml")) {
    return Unexpected(InvalidArgument(
        "Config file must be of a yaml/yml type. {} supplied", path));
  }
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  RETURN_IF_ERROR(CheckText(path, text));
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.empty()) return std::vector<std::string>{};
    if (documents.size() > 1) {
      return Unexpected(InvalidArgument("{}: found {} documents (what is between --- or ... and the next), expected one",
                                        path, documents.size()));
    }
    const YAML::Node& root = documents[0];
    if (root.IsNull()) return std::vector<std::string>{};
    if (!root.IsMap()) {
      return Unexpected(InvalidArgument("{}: expected a map of flag names to values", path));
    }
    std::vector<std::string> words;
    Budget budget;
    for (const auto& member : root) {
      if (!member.first.IsScalar()) {
        return Unexpected(InvalidArgument("{}:{}: a key must be a flag's name", path,
                                          member.first.Mark().line + 1));
      }
      const std::string& key = member.first.Scalar();
      if (Status status = AppendWords(table, key, member.second, &budget, &words); !status.ok()) {
        return Unexpected(InvalidArgument("{}:{}: {}: {}", path, member.first.Mark().line + 1, key, status.message()));
      }
    }
    return words;
  } catch (const YAML::DeepRecursion& error) {  // "bad file", in its own words
    return Unexpected(InvalidArgument("{}:{}: nested deeper than {}", path, error.mark.line + 1, kMaxYamlDepth));
  } catch (const YAML::Exception& error) {
    return Unexpected(InvalidArgument("{}:{}: {}", path, error.mark.line + 1, error.msg));
  }
}

}  // namespace tiercel::options
