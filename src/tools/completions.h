// Completions for shells, made of the commands' option tables: which words may come next.
#pragma once

#include <span>
#include <string>

#include "tools/commands.h"

namespace tiercel::tools {

std::string BashCompletion(std::span<const Subcommand> commands);
std::string ZshCompletion(std::span<const Subcommand> commands);
std::string FishCompletion(std::span<const Subcommand> commands);

}  // namespace tiercel::tools
