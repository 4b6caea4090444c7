// Logging: one line per event to stderr through spdlog. LOG_INFO("loaded {} tensors", n).
#pragma once

#include <spdlog/spdlog.h>

#include <string>

#define LOG_DEBUG(...) ::spdlog::debug(__VA_ARGS__)
#define LOG_INFO(...) ::spdlog::info(__VA_ARGS__)
#define LOG_WARNING(...) ::spdlog::warn(__VA_ARGS__)
#define LOG_ERROR(...) ::spdlog::error(__VA_ARGS__)

namespace tiercel {
using LogLevel = spdlog::level::level_enum;

// Sets pattern, sink and the least severe level that is logged; called once by each main before
// anything logs.
void InitLogging(LogLevel level = LogLevel::info);

// Whatever the level: for what ends the process, which must never end without a word.
void LogErrorAlways(const std::string& message);
}  // namespace tiercel
