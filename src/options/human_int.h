// Integers as people write them in flags: 4096, 1k = 1000, 1K = 1024, 2.5m = 2 500 000.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace tiercel::options {

// Decimals go with the lower-case suffixes alone (k, m, g, t: powers of 1000). Capitals are powers
// of 1024. Errors have no flag's name in front: the parser adds it.
Expected<int64_t> ParseHumanInt(const std::string& text);
Expected<int64_t> ParseInt(const std::string& text);
Expected<double> ParseFloat(const std::string& text);

}  // namespace tiercel::options
