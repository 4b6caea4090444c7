// Help texts, made from the option table.
#pragma once

#include <string>
#include <string_view>

#include "options/option_table.h"

namespace tiercel::options {

struct CommandHelp {
  std::string_view usage;        // "tiercel serve [model_tag] [options]"
  std::string_view description;  // one paragraph
  // One line for each positional argument, or empty.
  std::string_view positional;
};

// "--name, -n, --no-name INT", and what the option does with its choices and its default.
std::string OptionNames(const OptionSpec& spec);
std::string OptionText(const OptionSpec& spec);

// `topic` is that of --help=topic: "" (what there is and the groups' names, or everything for a
// short table), "listgroup", "all", a group's name, or a flag (a part of its name is enough).
std::string RenderHelp(const OptionTable& table, const CommandHelp& command,
                       std::string_view topic);

}  // namespace tiercel::options
