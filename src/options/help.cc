#include "options/help.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/ascii_case.h"

namespace tiercel::options {
namespace {

constexpr size_t kWidth = 100;
constexpr size_t kIndent = 6;

// As searched for: "Max_Model_Len" → "max-model-len".
std::string Plain(std::string_view text) {
  std::string lower = LowerCase(text);
  std::replace(lower.begin(), lower.end(), '_', '-');
  return lower;
}

std::string Wrap(std::string_view text) {
  std::string out(kIndent, ' ');
  size_t column = kIndent;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    if (column > kIndent && column + 1 + word.size() > kWidth) {
      out += "\n" + std::string(kIndent, ' ');
      column = kIndent;
    } else if (column > kIndent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out + "\n";
}

std::string_view Placeholder(Kind kind) {
  switch (kind) {
    case Kind::kSwitch:
    case Kind::kFlag: return "";
    case Kind::kInt: return " INT";
    case Kind::kHumanInt: return " INT[k|K|m|M|g|G]";
    case Kind::kFloat: return " NUMBER";
    case Kind::kString: return " TEXT";
    case Kind::kStrings: return " TEXT [TEXT …]";
    case Kind::kInts: return " INT [INT …]";
    case Kind::kJson: return " JSON";
    case Kind::kJsonList: return " JSON-LIST";
  }
  return "";
}

std::string RenderOption(const OptionSpec& spec) {
  return fmt::format("  {}\n{}", OptionNames(spec), Wrap(OptionText(spec)));
}

std::string RenderGroup(const OptionGroup& group) {
  std::string out = fmt::format("{}:\n  {}\n\n", group.name, group.description);
  for (const OptionSpec& spec : group.options) out += RenderOption(spec);
  return out + "\n";
}

std::string ListGroups(const OptionTable& table) {
  std::string out = "Config Groups:\n";
  for (const OptionGroup& group : table.groups()) {
    out += fmt::format("  {:<26}{}\n", group.name, group.description);
  }
  return out;
}

std::string RenderTopic(const OptionTable& table, std::string_view topic) {
  const std::string wanted = Plain(topic);
  for (const OptionGroup& group : table.groups()) {
    if (Plain(group.name) == wanted) return RenderGroup(group);
  }
  std::string out;
  const std::string part = wanted.substr(std::min(wanted.find_first_not_of('-'), wanted.size()));
  for (const OptionGroup& group : table.groups()) {
    for (const OptionSpec& spec : group.options) {
      if (!part.empty() && std::string_view(spec.names).find(part) != std::string_view::npos) {
        out += RenderOption(spec);
      }
    }
  }
  if (!out.empty()) return out;
  return fmt::format("No group or parameter matching '{}' found. Use --help=listgroup.\n", topic);
}

}  // namespace

std::string OptionNames(const OptionSpec& spec) {
  std::string names;
  for (const std::string& name : spec.AllNames()) names += (names.empty() ? "" : ", ") + name;
  if (spec.kind == Kind::kSwitch) names += ", --no-" + std::string(spec.name());
  return names.append(Placeholder(spec.kind));
}

std::string OptionText(const OptionSpec& spec) {
  std::string text = spec.help;
  if (*spec.choices != '\0') {
    std::string choices = spec.choices;
    for (size_t at = 0; (at = choices.find('|', at)) != std::string::npos; at += 2) {
      choices.replace(at, 1, ", ");
    }
    text += " One of: " + choices + ".";
  }
  if (spec.effect == Effect::kNone) text = "(no effect) " + text;
  if (spec.effect == Effect::kRefused) text = "(not supported) " + text;
  if (*spec.default_value != '\0') text += fmt::format(" (default: {})", spec.default_value);
  return text;
}

std::string RenderHelp(const OptionTable& table, const CommandHelp& command,
                       std::string_view topic) {
  std::string out = fmt::format("usage: {}\n\n", command.usage);
  const bool is_short = table.groups().size() == 1;
  if (topic == "listgroup") return out + ListGroups(table);
  if (!topic.empty() && topic != "all") return out + RenderTopic(table, topic);
  out += fmt::format("{}\n\n", command.description);
  if (!command.positional.empty()) out += fmt::format("{}\n\n", command.positional);
  if (topic == "all" || is_short) {
    for (const OptionGroup& group : table.groups()) out += RenderGroup(group);
    return out;
  }
  out += ListGroups(table);
  return out +
         "\nMore:\n"
         "  --help=listgroup     the groups\n"
         "  --help=GroupName     the flags of a group\n"
         "  --help=max-num-seqs  one flag, or all whose names have this in them\n"
         "  --help=all           every flag\n"
         "  --config FILE.yaml   flags from a file; the command line wins\n";
}

}  // namespace tiercel::options
