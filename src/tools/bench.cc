// tiercel bench: measures a server over HTTP, or the engine in this process.
#include <cstdio>
#include <string>

#include "tools/bench_commands.h"
#include "tools/command.h"

namespace tiercel::tools {
namespace {

struct Benchmark {
  std::string_view name, summary;
  int (*run)(const std::vector<std::string>&);
};
constexpr Benchmark kBenchmarks[] = {
    {"serve", "Send requests to an OpenAI server and time its answers.", &RunBenchServe},
    {"latency", "Time one batch in this process, again and again.", &RunBenchLatency},
    {"throughput", "Time many requests in this process.", &RunBenchThroughput},
};

constexpr CommandHelp kHelp = {
    "tiercel bench {serve,latency,throughput} ... (--help says more of each)", "", ""};

}  // namespace

int RunBench(const std::vector<std::string>& words) {
  if (!words.empty() && (words[0] == "-h" || words[0] == "--help")) {
    std::fputs(fmt::format("usage: {}\n\n", kHelp.usage).c_str(), stdout);
    for (const Benchmark& benchmark : kBenchmarks) {
      std::fputs(fmt::format("  {:<12}{}\n", benchmark.name, benchmark.summary).c_str(), stdout);
    }
    return kExitOk;
  }
  std::string choices;
  for (const Benchmark& benchmark : kBenchmarks) {
    if (!words.empty() && benchmark.name == words[0]) {
      return benchmark.run({words.begin() + 1, words.end()});
    }
    choices += fmt::format("{}'{}'", choices.empty() ? "" : ", ", benchmark.name);
  }
  return UsageError(kHelp, "tiercel bench",
                    words.empty()
                        ? fmt::format("the following arguments are required: {}", choices)
                        : fmt::format("invalid choice: '{}' (choose from {})", words[0], choices));
}

}  // namespace tiercel::tools
