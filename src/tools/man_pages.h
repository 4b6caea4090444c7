// Man pages in roff, with the macros of man(7), made of the commands' help and option tables.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "tools/commands.h"

namespace tiercel::tools {

struct Release {
  std::string_view version;
  std::string_view date;  // 2026-11-29
};

// File name → page, for the program and each command in the tree: tiercel.1, tiercel-serve.1,
// tiercel-bench-serve.1, …
std::map<std::string, std::string> ManPages(std::span<const Subcommand> commands,
                                            const Release& release);

}  // namespace tiercel::tools
