// Files that commands write.
#pragma once

#include <string>

#include "base/status.h"

namespace tiercel::tools {

// `append`: behind what the file has, on a line of its own.
Status WriteText(const std::string& path, const std::string& text, bool append = false);

}  // namespace tiercel::tools
