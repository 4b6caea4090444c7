#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <cctype>
#include <cstdlib>
#include <string>

namespace tiercel {

void InitLogging() {
  auto logger = spdlog::stderr_color_mt("tiercel");
  logger->set_pattern("%^%l%$ %m-%d %H:%M:%S %v");
  const char* env = std::getenv("VLLM_LOGGING_LEVEL");
  std::string level = env != nullptr ? env : "info";
  for (char& c : level) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (level == "warn") level = "warning";
  logger->set_level(spdlog::level::from_str(level));
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace tiercel
