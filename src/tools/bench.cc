// tiercel bench: measures a server over HTTP, or the engine in this process.
#include <cstdio>
#include <string>

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
};

std::string Usage() {
  return fmt::format("tiercel bench {{{}}} ... (--help says more of each)", PlainNames(kBenchmarks));
}

}  // namespace

std::span<const Subcommand> BenchSubcommands() { return kBenchmarks; }

int RunBench(const std::vector<std::string>& words) {
  const std::string usage = Usage();
  if (!words.empty() && (words[0] == "-h" || words[0] == "--help")) {
    std::fputs(fmt::format("usage: {}\n\n", usage).c_str(), stdout);
    for (const Subcommand& benchmark : kBenchmarks) {
      std::fputs(fmt::format("  {:<12}{}\n", benchmark.name, benchmark.summary).c_str(), stdout);
    }
    return kExitOk;
  }
  for (const Subcommand& benchmark : kBenchmarks) {
    if (!words.empty() && benchmark.name == words[0]) {
      return benchmark.run({words.begin() + 1, words.end()});
    }
  }
  const std::string choices = QuotedNames(kBenchmarks);
  return UsageError({usage, "", ""}, "tiercel bench",
                    words.empty()
                        ? fmt::format("the following arguments are required: {}", choices)
                        : fmt::format("invalid choice: '{}' (choose from {})", words[0], choices));
}

}  // namespace tiercel::tools
