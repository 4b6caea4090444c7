// The combinations of `tiercel bench sweep`: files of parameters, the command lines and folders that they come to.
// Rules and names are those of `vllm bench sweep`, so that its files work and its results compare.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/json.h"
#include "base/status.h"

namespace tiercel::bench {

// One combination: an object of flags, and perhaps "_benchmark_name".
using SweepItem = api::Json::Object;

// A JSON list of objects, or an object of named ones. `source` names the file in messages.
Expected<std::vector<SweepItem>> ParseParameterSweep(const std::string& source, std::string_view json);

// A parameter's value, however its name is written: with '-' or '_'. Null if there is none.
const api::Json* FindParameter(const SweepItem& item, std::string_view name);
// The item with this value of it.
SweepItem WithParameter(SweepItem item, std::string_view name, api::Json value);

// "max_num_seqs=32, enforce_eager=True", with what stands between.
std::string SweepText(const SweepItem& item, std::string_view separator);
// Its "_benchmark_name", else "max_num_seqs=32-enforce_eager=True".
std::string SweepName(const SweepItem& item);

// `command` with the item's flags: what is there is replaced, whether written with '-' or '_', else added. True is
// --flag and false --no-flag; within a dotted key --a.b=true.
std::vector<std::string> ApplyParameters(const SweepItem& item, std::vector<std::string> command);

// The folder's name below the experiment's: "SERVE--max_num_seqs=32-BENCH--random_input_len=128", and behind it
// "-WL--request_rate=4" for the workload "request_rate=4"; "" where there is none of them. Slashes and ".." become
// underscores.
std::string SweepFolder(const SweepItem& serve, const SweepItem& bench, std::string_view workload = "");

// A name without slashes and "..", which become underscores.
std::string SafeFileName(std::string_view name);

// Pairs of "max_num_seqs=max_concurrency,…": a key of the server's and one of the benchmark's that have to be equal.
using SweepLinks = std::vector<std::pair<std::string, std::string>>;
Expected<SweepLinks> ParseLinks(std::string_view text);
bool AreLinked(const SweepLinks& links, const SweepItem& serve, const SweepItem& bench);

// Words of a command line as a shell splits them: quotes and backslashes, nothing is expanded. `what` names the flag.
Expected<std::vector<std::string>> SplitCommand(std::string_view what, std::string_view text);

// What Python's str() and repr() make of a value of a JSON file.
std::string PythonStr(const api::Json& value);
std::string PythonRepr(const api::Json& value);

}  // namespace tiercel::bench
