// Files of --config: a YAML map from flag names to values.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "options/option_table.h"

namespace tiercel::options {

// The file as command-line words: "port: 8001" gives --port 8001, "x: true" gives --x, "x: false"
// gives --no-x, a list gives one word an item, a map gives JSON. Booleans are those of YAML 1.1, as in
// Python: yes, no, on and off too. Errors name the file and the line, or the key.
Expected<std::vector<std::string>> ReadConfigFile(const std::string& path, const OptionTable& table);

}  // namespace tiercel::options
