// tiercel bench: measures a server over HTTP, or the engine in this process.
#include "tools/bench_commands.h"
#include "tools/command.h"
#include "tools/commands.h"

namespace tiercel::tools {
namespace {

constexpr Subcommand kBenchmarks[] = {
    {"serve", "Send requests to an OpenAI server and time its answers.", &RunBenchServe,
     &DescribeBenchServe},
    {"latency", "Time one batch in this process, again and again.", &RunBenchLatency,
     &DescribeBenchLatency},
    {"throughput", "Time many requests in this process.", &RunBenchThroughput, &DescribeBenchThroughput},
    {"sweep", "Measure servers with many combinations of flags.", &RunBenchSweep, nullptr, &SweepSubcommands},
};

}  // namespace

std::span<const Subcommand> BenchSubcommands() { return kBenchmarks; }

int RunBench(const std::vector<std::string>& words) { return RunPart("tiercel bench", kBenchmarks, words); }

}  // namespace tiercel::tools
