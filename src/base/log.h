// Logging: one line per event to stderr through spdlog. LOG_INFO("loaded {} tensors", n).
// The level is VLLM_LOGGING_LEVEL (DEBUG, INFO, WARNING, ERROR; default INFO).
#pragma once

#include <spdlog/spdlog.h>

#define LOG_DEBUG(...) ::spdlog::debug(__VA_ARGS__)
#define LOG_INFO(...) ::spdlog::info(__VA_ARGS__)
#define LOG_WARNING(...) ::spdlog::warn(__VA_ARGS__)
#define LOG_ERROR(...) ::spdlog::error(__VA_ARGS__)

namespace tiercel {
// Sets pattern, level and sink; called once by each main before anything logs.
void InitLogging();
}  // namespace tiercel
