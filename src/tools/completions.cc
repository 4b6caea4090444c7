#include "tools/completions.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

namespace tiercel::tools {
namespace {

constexpr char kHeader[] = "# Written by `tiercel share-files`.\n";

bool TakesValue(const OptionSpec& spec) {
  return spec.kind != Kind::kSwitch && spec.kind != Kind::kFlag;
}

// Every option of a command in the table's order.
void ForEachOption(const CommandText& text, const std::function<void(const OptionSpec&)>& visit) {
  for (const OptionGroup& group : text.table.groups()) {
    for (const OptionSpec& spec : group.options) visit(spec);
  }
}

std::string NegatedName(const OptionSpec& spec) { return "--no-" + std::string(spec.name()); }

std::string JoinNames(const OptionSpec& spec, std::string_view separator) {
  std::string out;
  for (const std::string& name : spec.AllNames()) {
    out += fmt::format("{}{}", out.empty() ? "" : separator, name);
  }
  return out;
}

// 'text' for all three shells: what a quote ends is taken up behind it.
std::string Quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

std::string Spaced(std::string_view bars) {
  std::string text(bars);
  std::replace(text.begin(), text.end(), '|', ' ');
  return text;
}

// The first sentence, at most 80 bytes of it: a line of a list. Cut before a word, so never within
// a character.
std::string Brief(std::string_view text) {
  constexpr size_t kWidth = 80;
  const size_t end = text.find(". ");
  std::string_view line = text.substr(0, end);
  if (line.ends_with('.')) line.remove_suffix(1);
  if (line.size() <= kWidth) return std::string(line);
  const size_t space = line.substr(0, kWidth).rfind(' ');
  return std::string(line.substr(0, space)) + " …";
}

// ---- bash

// The arms of `case $command in`: `words` is what may come next, by what stands before.
void BashArms(const std::string& path, std::span<const Subcommand> commands, std::string* arms) {
  const std::string names = PlainNames(commands, " ");
  *arms += fmt::format("    {})\n      words={}\n      ;;\n", Quoted(path),
                       Quoted(names + (path.empty() ? " --help --version" : " --help")));
  for (const Subcommand& command : commands) {
    const std::string full = path.empty() ? std::string(command.name)
                                          : fmt::format("{} {}", path, command.name);
    if (command.describe == nullptr) {
      BashArms(full, command.parts(), arms);
      continue;
    }
    const CommandText text = command.describe();
    std::string flags = "--help", choices, free;
    ForEachOption(text, [&](const OptionSpec& spec) {
      flags += " " + JoinNames(spec, " ");
      if (spec.kind == Kind::kSwitch) flags += " " + NegatedName(spec);
      if (*spec.choices != '\0') {
        choices += fmt::format("        {}) words={} ;;\n", JoinNames(spec, "|"),
                               Quoted(Spaced(spec.choices)));
      } else if (TakesValue(spec)) {
        free += (free.empty() ? "" : "|") + JoinNames(spec, "|");
      }
    });
    *arms += fmt::format("    {})\n      case $before in\n", Quoted(full)) + choices;
    if (!free.empty()) *arms += fmt::format("        {}) ;;\n", free);
    *arms += fmt::format(
        "        *)\n          if [[ $word == -* ]]; then words={}; else words={}; fi\n          ;;\n"
        "      esac\n      ;;\n",
        Quoted(flags), Quoted(Spaced(text.words)));
  }
}

// Every command with another behind it: 'serve', 'bench', 'bench serve'.
std::string BashPaths(const std::string& path, std::span<const Subcommand> commands) {
  std::string out;
  for (const Subcommand& command : commands) {
    const std::string full = fmt::format("{} {}", path, command.name);
    out += (out.empty() ? "" : "|") + Quoted(full);
    if (command.parts != nullptr) out += "|" + BashPaths(full, command.parts());
  }
  return out;
}

// ---- zsh

// Within a spec of _arguments, and in _describe: brackets and colons are syntax there.
std::string ZshText(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

void ZshFunctions(const std::string& function, std::span<const Subcommand> commands,
                  std::string* out) {
  *out += fmt::format("{}() {{\n  local -a commands\n  commands=(\n", function);
  for (const Subcommand& command : commands) {
    *out += fmt::format("    {}\n",
                        Quoted(fmt::format("{}:{}", command.name, ZshText(Brief(command.summary)))));
  }
  *out += fmt::format(
      "  )\n  if (( CURRENT == 2 )); then\n    _describe -t commands command commands\n"
      "  elif (( $+functions[{0}_$words[2]] )); then\n    local function={0}_$words[2]\n"
      "    shift words\n    (( CURRENT-- ))\n    $function\n  fi\n}}\n\n",
      function);
  for (const Subcommand& command : commands) {
    const std::string name = fmt::format("{}_{}", function, command.name);
    if (command.describe == nullptr) {
      ZshFunctions(name, command.parts(), out);
      continue;
    }
    const CommandText text = command.describe();
    *out += fmt::format("{}() {{\n  _arguments \\\n    '(- *)--help[help]' \\\n", name);
    ForEachOption(text, [&](const OptionSpec& spec) {
      const std::string brief = ZshText(Brief(OptionText(spec)));
      const std::string value =
          !TakesValue(spec) ? ""
          : *spec.choices != '\0'
              ? fmt::format(":{}:({})", spec.name(), Spaced(spec.choices))
              : fmt::format(":{}:_files", spec.name());
      for (const std::string& flag : spec.AllNames()) {
        const bool is_long = flag.starts_with("--");
        *out += fmt::format("    {} \\\n",
                            Quoted(fmt::format("{}{}[{}]{}", flag,
                                               is_long && TakesValue(spec) ? "=" : "", brief, value)));
      }
      if (spec.kind == Kind::kSwitch) {
        *out += fmt::format("    {} \\\n", Quoted(fmt::format("{}[{}]", NegatedName(spec), brief)));
      }
    });
    if (!text.words.empty()) *out += fmt::format("    '1:what:({})' \\\n", Spaced(text.words));
    *out += "    '*:file:_files'\n}\n\n";
  }
}

// ---- fish

void FishLines(const std::string& path, std::span<const Subcommand> commands, std::string* out) {
  for (const Subcommand& command : commands) {
    *out += fmt::format("complete -c tiercel -f -n '__tiercel_is{}' -a {} -d {}\n", path,
                        command.name, Quoted(Brief(command.summary)));
    const std::string full = fmt::format("{} {}", path, command.name);
    if (command.describe == nullptr) {
      FishLines(full, command.parts(), out);
      continue;
    }
    const CommandText text = command.describe();
    if (!text.words.empty()) {
      *out += fmt::format("complete -c tiercel -f -n '__tiercel_is{}' -a {}\n", full,
                          Quoted(Spaced(text.words)));
    }
    ForEachOption(text, [&](const OptionSpec& spec) {
      std::string names;
      for (const std::string_view name : spec.AllNames()) {
        names += name.starts_with("--") ? fmt::format(" -l {}", name.substr(2))
                 : name.size() == 2     ? fmt::format(" -s {}", name.substr(1))
                                        : fmt::format(" -o {}", name.substr(1));
      }
      const std::string value = *spec.choices != '\0'
                                    ? fmt::format(" -x -a {}", Quoted(Spaced(spec.choices)))
                                    : std::string(TakesValue(spec) ? " -r" : "");
      const std::string when = fmt::format("complete -c tiercel -n '__tiercel_in{}'", full);
      const std::string brief = Quoted(Brief(OptionText(spec)));
      *out += fmt::format("{}{}{} -d {}\n", when, names, value, brief);
      if (spec.kind == Kind::kSwitch) {
        *out += fmt::format("{} -l {} -d {}\n", when, NegatedName(spec).substr(2), brief);
      }
    });
  }
}

}  // namespace

std::string BashCompletion(std::span<const Subcommand> commands) {
  std::string arms;
  BashArms("", commands, &arms);
  return std::string(kHeader) +
         R"(_tiercel() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command= words= i
  # --flag=value is three words here.
  if [[ $word == = ]]; then
    word=
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$command ${COMP_WORDS[i]}" in
      )" + BashPaths("", commands) + R"() command="$command ${COMP_WORDS[i]}" ;;
      *) break ;;
    esac
  done
  case ${command# } in
)" + arms + R"(  esac
  COMPREPLY=()
  if [[ -n $words ]]; then mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word"); fi
}
complete -o bashdefault -o default -F _tiercel tiercel
)";
}

std::string ZshCompletion(std::span<const Subcommand> commands) {
  std::string functions;
  ZshFunctions("_tiercel", commands, &functions);
  return "#compdef tiercel\n" + std::string(kHeader) + functions + "_tiercel \"$@\"\n";
}

std::string FishCompletion(std::span<const Subcommand> commands) {
  std::string lines;
  FishLines("", commands, &lines);
  return std::string(kHeader) + R"(# Whether the words so far are these commands, or begin with them.
function __tiercel_is
    set -l words (commandline -opc)
    test "$words[2..-1]" = "$argv"
end
function __tiercel_in
    set -l words (commandline -opc)
    set -l last (math (count $argv) + 1)
    test (count $words) -ge $last; and test "$words[2..$last]" = "$argv"
end
)" + lines;
}

}  // namespace tiercel::tools
