// The flags of `vllm bench sweep serve`; see option_table.h for what the columns mean.
#include "options/option_table.h"

namespace tiercel::options {
namespace {

constexpr OptionSpec kCommands[] = {
    {"--serve-cmd", Kind::kString, "", Effect::kUsed, "The command that runs the server: 'tiercel serve …'."},
    {"--bench-cmd", Kind::kString, "", Effect::kUsed,
     "The command that runs the benchmark: 'tiercel bench serve …'."},
    {"--after-bench-cmd", Kind::kString, "", Effect::kUsed,
     "What to run after each benchmark, instead of resetting the server's caches."},
    {"--show-stdout", Kind::kFlag, "", Effect::kUsed, "Show what server and benchmark write to standard output."},
    {"--server-ready-timeout", Kind::kInt, "300", Effect::kUsed, "Seconds to wait for the server."},
};

constexpr OptionSpec kCombinations[] = {
    {"--serve-params", Kind::kString, "", Effect::kUsed,
     "A JSON file with combinations of the server's flags: a list of objects, or an object of named ones. Each is run "
     "with each of --bench-params."},
    {"--bench-params", Kind::kString, "", Effect::kUsed, "The same of the benchmark's flags."},
    {"--link-vars", Kind::kString, "", Effect::kUsed,
     "Run only combinations in which these are equal: max_num_seqs=max_concurrency,…"},
    {"--num-runs", Kind::kInt, "3", Effect::kUsed, "Runs of each combination."},
    {"--warmup-num-prompts", Kind::kInt, "0", Effect::kUsed,
     "Run each combination once before with so many prompts, which is not counted."},
};

constexpr OptionSpec kResults[] = {
    {"--output-dir -o", Kind::kString, "results", Effect::kUsed, "Folder of all experiments."},
    {"--experiment-name -e", Kind::kString, "", Effect::kUsed,
     "Folder of this one below it. Default: the date and the time."},
    {"--dry-run", Kind::kFlag, "", Effect::kUsed, "Show the commands alone."},
    {"--resume", Kind::kFlag, "", Effect::kUsed, "Run what has no results yet in the folder of --experiment-name."},
    {"--continue-on-error", Kind::kFlag, "", Effect::kUsed, "Write down what fails and go on with the next."},
};

}  // namespace

const OptionTable& BenchSweepServeOptionTable() {
  static const OptionTable table({
      {"commands", "What is run.", kCommands},
      {"combinations", "With which flags.", kCombinations},
      {"results", "Where results go.", kResults},
  });
  return table;
}

}  // namespace tiercel::options
