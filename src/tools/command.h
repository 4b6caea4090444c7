// The subcommands: each gets the words behind its name and returns the process's exit code.
#pragma once

#include <string>
#include <vector>

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
inline constexpr int kExitFailure = 1;  // the environment's fault, or the model's
inline constexpr int kExitUsage = 2;    // the command line's

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

// Prints argparse's "usage: …" and "NAME: error: …" to standard error; returns kExitUsage.
int UsageError(const CommandHelp& command, std::string_view name, const std::string& message);

}  // namespace tiercel::tools
