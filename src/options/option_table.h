// OptionTable: every flag of a command as plain data. Parser, help, config files and the check for
// flags without effect all read this one table.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"

namespace tiercel::options {

enum class Kind {
  kSwitch,    // --name and --no-name
  kFlag,      // --name
  kString,
  kInt,
  kHumanInt,  // 1k = 1000, 1K = 1024, 2.5m; see human_int.h
  kFloat,
  kStrings,   // one or more words
  kInts,      // one or more integers
  kJson,      // a JSON object; dotted keys (--name.key value) are merged into it
  kJsonList,  // a JSON list of strings
};

enum class Effect {
  kUsed,
  // Changes nothing here that a client could tell: another value than the default is named once in
  // the log, with the help text.
  kNone,
  // Asks for what is not there: another value than the default is refused, with the help text.
  kRefused,
};

struct OptionSpec {
  const char* names;  // "--tensor-parallel-size -tp": the first is the option's name
  Kind kind;
  const char* default_value;  // as vLLM shows it; "" for None
  Effect effect;
  const char* help;
  const char* choices = "";  // "a|b|c"; "" for any

  std::string_view name() const;  // without the dashes
  std::vector<std::string> AllNames() const;     // with their dashes
  std::vector<std::string> ChoiceList() const;
  // How argparse names the option in messages: "--tensor-parallel-size/-tp".
  std::string Display() const;
};

struct OptionGroup {
  const char* name;
  const char* description;
  std::span<const OptionSpec> options;
};

class OptionTable {
 public:
  // The groups' options live as long as the program (they are constants).
  explicit OptionTable(std::vector<OptionGroup> groups);

  const std::vector<OptionGroup>& groups() const { return groups_; }
  // `name` without dashes in front, '-' within; null if there is none.
  const OptionSpec* Find(std::string_view name) const;

  struct Match {
    const OptionSpec* spec = nullptr;
    bool negated = false;  // --no-name
  };
  // `flag` with its dashes. Exact, else an unambiguous prefix; spec is null if nothing matches, and
  // several matches are argparse's "ambiguous option" error.
  Expected<Match> Resolve(const std::string& flag) const;

 private:
  std::vector<OptionGroup> groups_;
  std::vector<std::pair<std::string, Match>> flags_;  // every spelling, in the table's order
  std::unordered_map<std::string, size_t> exact_;
};

// All flags of `vllm serve`, split by vLLM's groups over the files *_options.cc.
const OptionTable& ServeOptionTable();
// `groups`, then serve's: of a command that loads and runs a model by the same flags.
OptionTable WithServeOptions(std::vector<OptionGroup> groups);

// Those of `vllm bench`.
const OptionTable& BenchServeOptionTable();
const OptionTable& BenchLatencyOptionTable();
const OptionTable& BenchThroughputOptionTable();
const OptionTable& BenchSweepServeOptionTable();
const OptionTable& BenchSweepWorkloadOptionTable();
const OptionTable& BenchSweepPlotOptionTable();
const OptionTable& BenchSweepParetoOptionTable();

std::span<const OptionGroup> ModelOptionGroups();
std::span<const OptionGroup> ParallelOptionGroups();
std::span<const OptionGroup> CacheOptionGroups();
std::span<const OptionGroup> MultimodalOptionGroups();
std::span<const OptionGroup> EngineOptionGroups();
std::span<const OptionGroup> ObservabilityOptionGroups();
std::span<const OptionGroup> FrontendOptionGroups();

}  // namespace tiercel::options
