// What a command line makes, for tests.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "options/option_parser.h"
#include "options/option_table.h"
#include "serving/serve_config.h"

namespace tiercel::serving {

inline Expected<ServeConfig> Make(const std::vector<std::string>& words, const Environ& environ = {}) {
  ASSIGN_OR_RETURN(const ParsedOptions parsed, options::ParseOptions(options::ServeOptionTable(), words, 1));
  return MakeServeConfig(parsed, environ);
}

inline std::string ErrorOf(const std::vector<std::string>& words, const Environ& environ = {}) {
  const auto config = Make(words, environ);
  EXPECT_FALSE(config);
  return config ? "" : config.error().message();
}

}  // namespace tiercel::serving
