#include "options/option_parser.h"

#include <algorithm>
#include <optional>
#include <set>

#include "base/check.h"
#include "options/human_int.h"
#include "options/json_value.h"
#include "options/yaml_config.h"

namespace tiercel::options {
namespace {

bool LooksLikeNumber(const std::string& word) {
  return word.size() > 1 && word.find_first_not_of("0123456789.", 1) == std::string::npos;
}

// argparse's rule for what may not be a value.
bool IsFlagWord(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && !LooksLikeNumber(word) &&
         word.find(' ') == std::string::npos;
}

bool TakesMany(Kind kind) { return kind == Kind::kStrings || kind == Kind::kInts; }
bool TakesNone(Kind kind) { return kind == Kind::kSwitch || kind == Kind::kFlag; }

Status CheckValue(const OptionSpec& spec, std::string* value) {
  switch (spec.kind) {
    case Kind::kInt:
    case Kind::kInts: {
      ASSIGN_OR_RETURN(const int64_t number, ParseInt(*value));
      *value = std::to_string(number);
      break;
    }
    case Kind::kHumanInt: {
      // vLLM: "auto" stands for −1, what the memory allows.
      ASSIGN_OR_RETURN(const int64_t number,
                       *value == "auto" ? Expected<int64_t>(-1) : ParseHumanInt(*value));
      *value = std::to_string(number);
      break;
    }
    case Kind::kFloat:
      if (auto number = ParseFloat(*value); !number) return number.error();
      break;
    case Kind::kJson: {
      auto normal = NormalizeJsonObject(*value);
      if (!normal) {
        return InvalidArgument("Value {} cannot be converted to a JSON object: {}", *value,
                               normal.error().message());
      }
      *value = *normal;
      break;
    }
    case Kind::kJsonList: {
      if (auto list = ParseJsonStringList(*value); !list) {
        return InvalidArgument("Value {} cannot be converted to a JSON list: {}", *value,
                               list.error().message());
      }
      break;
    }
    default:
      break;
  }
  const std::vector<std::string> choices = spec.ChoiceList();
  if (choices.empty() || std::find(choices.begin(), choices.end(), *value) != choices.end()) {
    return OkStatus();
  }
  const bool numbers = spec.kind == Kind::kInt;
  std::string shown;
  for (const std::string& choice : choices) {
    shown += fmt::format("{}{}", shown.empty() ? "" : ", ",
                         numbers ? choice : "'" + choice + "'");
  }
  return InvalidArgument("invalid choice: {} (choose from {})",
                         numbers ? *value : "'" + *value + "'", shown);
}

}  // namespace

class OptionParser {
 public:
  OptionParser(const OptionTable& table, size_t max_positional)
      : table_(table), max_positional_(max_positional), parsed_(&table) {}

  Expected<ParsedOptions> Parse(const std::vector<std::string>& words) {
    RETURN_IF_ERROR(TakeConfigFile(words));
    from_file_ = false;
    seen_.clear();
    RETURN_IF_ERROR(TakeWords(words));
    if (!unrecognized_.empty()) {
      return Unexpected(InvalidArgument("unrecognized arguments:{}", unrecognized_));
    }
    return std::move(parsed_);
  }

 private:
  // The file's words go first, so that the command line's win.
  Status TakeConfigFile(const std::vector<std::string>& words) {
    if (table_.Find("config") == nullptr) return OkStatus();
    std::optional<std::string> path;
    for (size_t i = 0; i < words.size(); ++i) {
      if (words[i] == "--config") {
        if (i + 1 == words.size()) {
          return InvalidArgument(
              "No config file specified! Please check your command-line arguments.");
        }
        path = words[i + 1];
      } else if (words[i].starts_with("--config=")) {
        path = words[i].substr(9);
      }
    }
    if (!path) return OkStatus();
    ASSIGN_OR_RETURN(const std::vector<std::string> file_words, ReadConfigFile(*path, table_));
    from_file_ = true;
    RETURN_IF_ERROR(TakeWords(file_words));
    if (!unrecognized_.empty()) {
      return InvalidArgument("{}: unrecognized arguments:{}", *path, unrecognized_);
    }
    return OkStatus();
  }

  Status TakeWords(const std::vector<std::string>& words) {
    for (size_t i = 0; i < words.size();) {
      const std::string& word = words[i++];
      if (word == "--") {
        while (i < words.size()) TakePositional(words[i++]);
      } else if (!IsFlagWord(word)) {
        TakePositional(word);
      } else {
        RETURN_IF_ERROR(TakeFlag(word, words, &i));
      }
    }
    return MergeDotted();
  }

  void TakePositional(const std::string& word) {
    if (parsed_.positional_.size() < max_positional_) {
      parsed_.positional_.push_back(word);
    } else {
      unrecognized_ += " " + word;
    }
  }

  // "--Flag_name.key+=value" in its parts; the flag's own part alone has '_' turned into '-'.
  struct FlagWord {
    std::string flag;
    std::string path;
    bool append = false;
    std::optional<std::string> value;
  };
  static FlagWord SplitFlag(const std::string& word) {
    FlagWord parts;
    const size_t equals = word.find('=');
    std::string name = word.substr(0, equals);
    if (equals != std::string::npos) parts.value = word.substr(equals + 1);
    if (const size_t dot = name.find('.'); dot != std::string::npos) {
      parts.path = name.substr(dot + 1);
      name.resize(dot);
      if (parts.path.ends_with('+')) {
        parts.append = true;
        parts.path.pop_back();
      }
    }
    if (name.starts_with("--")) std::replace(name.begin() + 2, name.end(), '_', '-');
    parts.flag = name;
    return parts;
  }

  // -O, -O2, -O=2, -O.mode: the optimization level, and a short form of -cc.
  static void RewriteOptimizationLevel(FlagWord* parts) {
    if (!parts->flag.starts_with("-O")) return;
    if (!parts->path.empty()) {
      parts->flag = "-cc";
      return;
    }
    if (parts->flag.size() > 2) parts->value = parts->flag.substr(2);
    parts->flag = "--optimization-level";
  }

  Status TakeFlag(const std::string& word, const std::vector<std::string>& words, size_t* next) {
    FlagWord parts = SplitFlag(word);
    if (parts.flag == "--help" || parts.flag == "-h") {
      parsed_.help_wanted_ = true;
      parsed_.help_topic_ = parts.value.value_or("");
      return OkStatus();
    }
    if (table_.Find("optimization-level") != nullptr) RewriteOptimizationLevel(&parts);
    ASSIGN_OR_RETURN(OptionTable::Match match, table_.Resolve(parts.flag));
    if (match.spec == nullptr && parts.flag.size() > 2 && !parts.flag.starts_with("--")) {
      // -qascend, -n2: the value stands right behind a one-letter flag.
      ASSIGN_OR_RETURN(match, table_.Resolve(parts.flag.substr(0, 2)));
      if (match.spec != nullptr) parts.value = word.substr(2);
    }
    if (match.spec == nullptr) {
      unrecognized_ += " " + word;
      return OkStatus();
    }
    const OptionSpec& spec = *match.spec;
    Status status = parts.path.empty() ? TakeValues(spec, match.negated, parts, words, next)
                                       : TakeDotted(spec, parts, words, next);
    if (!status.ok()) {
      return InvalidArgument("argument {}: {}", spec.Display(), status.message());
    }
    return OkStatus();
  }

  Status TakeValues(const OptionSpec& spec, bool negated, const FlagWord& parts,
                    const std::vector<std::string>& words, size_t* next) {
    std::vector<std::string> values;
    if (TakesNone(spec.kind)) {
      if (parts.value) return InvalidArgument("ignored explicit argument '{}'", *parts.value);
      values = {negated ? "False" : "True"};
    } else if (parts.value) {
      values = {*parts.value};
    } else if (TakesMany(spec.kind)) {
      while (*next < words.size() && !IsFlagWord(words[*next])) values.push_back(words[(*next)++]);
      if (values.empty()) return InvalidArgument("expected at least one argument");
    } else {
      if (*next == words.size() || IsFlagWord(words[*next])) {
        return InvalidArgument("expected one argument");
      }
      values = {words[(*next)++]};
    }
    for (std::string& value : values) RETURN_IF_ERROR(CheckValue(spec, &value));
    if (!seen_.insert(&spec).second && !from_file_) {
      parsed_.warnings_.push_back(
          fmt::format("Found duplicate flag --{}; the last value is used", spec.name()));
    }
    parsed_.values_[&spec] = std::move(values);
    return OkStatus();
  }

  Status TakeDotted(const OptionSpec& spec, const FlagWord& parts,
                    const std::vector<std::string>& words, size_t* next) {
    if (spec.kind != Kind::kJson) {
      return InvalidArgument("takes no dotted key: found .{}", parts.path);
    }
    std::string value;
    if (parts.value) {
      value = *parts.value;
    } else if (*next < words.size() && !IsFlagWord(words[*next])) {
      value = words[(*next)++];
    } else {
      return InvalidArgument("expected one argument for .{}", parts.path);
    }
    dotted_.push_back({&spec, parts.path, std::move(value), parts.append});
    return OkStatus();
  }

  // Dotted keys go over what the flag itself (or the file) gave, whatever their order.
  Status MergeDotted() {
    for (const Dotted& dotted : dotted_) {
      std::vector<std::string>& stored = parsed_.values_[dotted.spec];
      if (stored.empty()) stored = {"{}"};
      auto merged = SetJsonPath(stored[0], dotted.path, dotted.value, dotted.append);
      if (!merged) {
        return InvalidArgument("argument {}: {}", dotted.spec->Display(),
                               merged.error().message());
      }
      stored[0] = std::move(*merged);
    }
    dotted_.clear();
    return OkStatus();
  }

  struct Dotted {
    const OptionSpec* spec;
    std::string path;
    std::string value;
    bool append;
  };

  const OptionTable& table_;
  const size_t max_positional_;
  ParsedOptions parsed_;
  std::set<const OptionSpec*> seen_;
  std::vector<Dotted> dotted_;
  bool from_file_ = false;
  std::string unrecognized_;
};

Expected<ParsedOptions> ParseOptions(const OptionTable& table, std::vector<std::string> words,
                                     size_t max_positional) {
  return OptionParser(table, max_positional).Parse(words);
}

const OptionSpec& ParsedOptions::SpecOf(std::string_view name) const {
  const OptionSpec* spec = table_->Find(name);
  CHECK_MSG(spec != nullptr, "no option --{}", name);
  return *spec;
}

bool ParsedOptions::Given(std::string_view name) const { return values_.contains(&SpecOf(name)); }

std::vector<std::string> ParsedOptions::Strings(std::string_view name) const {
  const OptionSpec& spec = SpecOf(name);
  const auto it = values_.find(&spec);
  std::vector<std::string> values;
  if (it != values_.end()) {
    values = it->second;
  } else if (*spec.default_value != '\0') {
    values = {spec.default_value};
  }
  if (spec.kind != Kind::kJsonList || values.empty()) return values;
  return ParseJsonStringList(values[0]).value_or(std::vector<std::string>{});
}

std::string ParsedOptions::String(std::string_view name) const {
  const OptionSpec& spec = SpecOf(name);
  const auto it = values_.find(&spec);
  return it != values_.end() ? it->second[0] : spec.default_value;
}

bool ParsedOptions::On(std::string_view name) const { return String(name) == "True"; }

int64_t ParsedOptions::Int(std::string_view name) const {
  return ParseInt(String(name)).value_or(0);
}

Expected<int64_t> ParsedOptions::IntBetween(std::string_view name, int64_t low, int64_t high) const {
  const int64_t value = Int(name);
  if (value >= low && value <= high) return value;
  return Unexpected(InvalidArgument("argument --{}: found {}, expected {} … {}", name, value, low, high));
}

double ParsedOptions::Float(std::string_view name) const {
  return ParseFloat(String(name)).value_or(0);
}

std::vector<const OptionSpec*> ParsedOptions::NonDefault() const {
  std::vector<const OptionSpec*> specs;
  for (const OptionGroup& group : table_->groups()) {
    for (const OptionSpec& spec : group.options) {
      const auto it = values_.find(&spec);
      if (it == values_.end()) continue;
      const std::string& value = it->second[0];
      const bool off = spec.default_value[0] == '\0' && value == "False";
      if (it->second.size() == 1 && (value == spec.default_value || off)) continue;
      specs.push_back(&spec);
    }
  }
  return specs;
}

std::string ParsedOptions::Repr(const OptionSpec& spec) const {
  const std::vector<std::string>& values = values_.at(&spec);
  const auto quote = [](const std::string& text) { return "'" + text + "'"; };
  switch (spec.kind) {
    case Kind::kString:
      return quote(values[0]);
    case Kind::kStrings:
    case Kind::kInts: {
      std::string list;
      for (const std::string& value : values) {
        list += (list.empty() ? "" : ", ") + (spec.kind == Kind::kInts ? value : quote(value));
      }
      return "[" + list + "]";
    }
    default:
      return values[0];
  }
}

}  // namespace tiercel::options
