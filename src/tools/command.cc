#include "tools/command.h"

#include <cstdio>

#include <fmt/format.h>

#include "base/log.h"
#include "options/env_vars.h"

namespace tiercel::tools {
namespace {

// What a try with the same words, variables and files would end in again is theirs: also what is not there, or not offered.
int ExitCode(const Status& status) {
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kUnimplemented:
      return kExitUsage;
    default:
      return kExitFailure;
  }
}

}  // namespace

void Say(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

int UsageError(const CommandHelp& command, std::string_view name, const std::string& message) {
  std::fputs(fmt::format("usage: {}\n{}: error: {}\n", command.usage, name, message).c_str(), stderr);
  return kExitUsage;
}

int Failure(std::string_view name, const Status& status) { return Failure(name, status, ExitCode(status)); }

int Failure(std::string_view name, const Status& status, int code) {
  std::fputs(fmt::format("{}: {}\n", name, status.message()).c_str(), stderr);
  return code;
}

int LoggedFailure(const Status& status) {
  LogErrorAlways(status.message());
  return ExitCode(status);
}

void InitQuietLogging(const Environ& environ) {
  InitLogging(EnvValue(environ, "VLLM_LOGGING_LEVEL").empty() ? LogLevel::err : options::EnvLogLevel(environ));
}

}  // namespace tiercel::tools
