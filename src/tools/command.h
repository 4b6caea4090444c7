// The subcommands: each gets the words behind its name and returns the process's exit code.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/environ.h"
#include "base/status.h"
#include "options/help.h"
#include "options/option_parser.h"

namespace tiercel::tools {

// What every command says its flags in.
using options::CommandHelp;
using options::Effect;
using options::Kind;
using options::OptionGroup;
using options::OptionSpec;
using options::OptionTable;
using options::ParsedOptions;
using options::ParseOptions;
using options::RenderHelp;
using options::WithServeOptions;

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;  // the environment's fault
inline constexpr int kExitUsage = 2;    // the command line's, a variable's or a model file's

int RunServe(const std::vector<std::string>& words);
int RunChat(const std::vector<std::string>& words);
int RunComplete(const std::vector<std::string>& words);
int RunEval(const std::vector<std::string>& words);
int RunTune(const std::vector<std::string>& words);
int RunBench(const std::vector<std::string>& words);
int RunQuantize(const std::vector<std::string>& words);
int RunRunBatch(const std::vector<std::string>& words);
int RunCommCheck(const std::vector<std::string>& words);
int RunCollectEnv(const std::vector<std::string>& words);
int RunHealth(const std::vector<std::string>& words);
int RunShareFiles(const std::vector<std::string>& words);

// A line on standard output, at once.
void Say(const std::string& line);
// Prints argparse's "usage: …" and "NAME: error: …" to standard error; returns kExitUsage.
int UsageError(const CommandHelp& command, std::string_view name, const std::string& message);
// Prints "NAME: message" to standard error; returns `code`, or the one that docs/operations.md has for such an error.
int Failure(std::string_view name, const Status& status);
int Failure(std::string_view name, const Status& status, int code);
// The same to the log, for what runs on and on.
int LoggedFailure(const Status& status);
// The log of what runs once and returns its errors: errors alone, unless VLLM_LOGGING_LEVEL asks for more.
void InitQuietLogging(const Environ& environ);

}  // namespace tiercel::tools
