// The flags of `vllm bench sweep`; see option_table.h for what the columns mean.
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

constexpr OptionSpec kSweepResults[] = {
    {"--output-dir -o", Kind::kString, "results", Effect::kUsed, "Folder of all experiments."},
    {"--experiment-name -e", Kind::kString, "", Effect::kUsed,
     "Folder of this one below it. Default: the date and the time."},
    {"--dry-run", Kind::kFlag, "", Effect::kUsed, "Show the commands alone."},
    {"--resume", Kind::kFlag, "", Effect::kUsed, "Run what has no results yet in the folder of --experiment-name."},
    {"--continue-on-error", Kind::kFlag, "", Effect::kUsed, "Write down what fails and go on with the next."},
};

constexpr OptionSpec kWorkload[] = {
    {"--workload-var", Kind::kString, "request_rate", Effect::kUsed, "The flag of the benchmark that sets the load.",
     "request_rate|max_concurrency"},
    {"--workload-iters", Kind::kInt, "10", Effect::kUsed,
     "How many levels, with one request at a time and all at once among them."},
};

constexpr OptionSpec kPlot[] = {
    {"--fig-dir", Kind::kString, "", Effect::kUsed, "Folder of the pictures below OUTPUT_DIR. Default: OUTPUT_DIR."},
    {"--fig-name", Kind::kString, "FIGURE", Effect::kUsed, "How their names begin."},
    {"--fig-by", Kind::kString, "", Effect::kUsed, "Keys of the results, 'a,b': a picture for each of their values."},
    {"--row-by", Kind::kString, "", Effect::kUsed, "The same for rows of charts within a picture."},
    {"--col-by", Kind::kString, "", Effect::kUsed, "The same for columns of charts."},
    {"--curve-by", Kind::kString, "", Effect::kUsed, "The same for curves within a chart."},
    {"--var-x", Kind::kString, "request_throughput", Effect::kUsed, "What the x-axis shows: a key of the results."},
    {"--var-y", Kind::kString, "p99_e2el_ms", Effect::kUsed, "What the y-axis shows."},
    {"--filter-by", Kind::kString, "", Effect::kUsed,
     "Draw only runs of which this is true: 'max_concurrency<1000,max_num_batched_tokens<=4096'; == != <= >= < >."},
    {"--bin-by", Kind::kString, "", Effect::kUsed,
     "Take values together: 'request_throughput%1' rounds them down to whole numbers."},
    {"--scale-x", Kind::kString, "linear", Effect::kUsed, "The x-axis's scale.", "linear|log|sqrt"},
    {"--scale-y", Kind::kString, "linear", Effect::kUsed, "The y-axis's scale.", "linear|log|sqrt"},
    {"--dry-run", Kind::kFlag, "", Effect::kUsed, "Say which pictures there would be."},
};

constexpr OptionSpec kPareto[] = {
    {"--user-count-var", Kind::kString, "max_concurrency", Effect::kUsed,
     "The key of the results that says how many users there were; else request_rate, else max_concurrent_requests."},
    {"--gpu-count-var", Kind::kString, "", Effect::kUsed,
     "The key that says how many devices there were. Default: the product of the parallel sizes."},
    {"--label-by", Kind::kString, "max_concurrency,gpu_count", Effect::kUsed, "Keys to write at the frontier's points."},
    {"--dry-run", Kind::kFlag, "", Effect::kUsed, "Say which picture there would be."},
};

}  // namespace

const OptionTable& BenchSweepServeOptionTable() {
  static const OptionTable table({
      {"commands", "What is run.", kCommands},
      {"combinations", "With which flags.", kCombinations},
      {"results", "Where results go.", kSweepResults},
  });
  return table;
}

const OptionTable& BenchSweepWorkloadOptionTable() {
  static const OptionTable table({
      {"commands", "What is run.", kCommands},
      {"combinations", "With which flags.", kCombinations},
      {"workload", "Under which load.", kWorkload},
      {"results", "Where results go.", kSweepResults},
  });
  return table;
}

const OptionTable& BenchSweepPlotOptionTable() {
  static const OptionTable table({{"plot", "What is drawn.", kPlot}});
  return table;
}

const OptionTable& BenchSweepParetoOptionTable() {
  static const OptionTable table({{"pareto", "What is drawn.", kPareto}});
  return table;
}

}  // namespace tiercel::options
