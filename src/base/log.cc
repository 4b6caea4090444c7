#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace tiercel {

void InitLogging(LogLevel level) {
  auto logger = spdlog::stderr_color_mt("tiercel");
  logger->set_pattern("%^%l%$ %m-%d %H:%M:%S %v");
  logger->set_level(level);
  spdlog::set_default_logger(std::move(logger));
}

void LogErrorAlways(const std::string& message) {
  if (!spdlog::should_log(LogLevel::err)) spdlog::set_level(LogLevel::err);
  LOG_ERROR("{}", message);
}

}  // namespace tiercel
