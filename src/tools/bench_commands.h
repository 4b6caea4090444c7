// The benchmarks of `tiercel bench`: each gets the words behind its name and returns the exit code.
#pragma once

#include <string>
#include <vector>

namespace tiercel::tools {

int RunBenchServe(const std::vector<std::string>& words);
int RunBenchLatency(const std::vector<std::string>& words);
int RunBenchThroughput(const std::vector<std::string>& words);
int RunBenchSweep(const std::vector<std::string>& words);
int RunBenchSweepServe(const std::vector<std::string>& words);
int RunBenchSweepWorkload(const std::vector<std::string>& words);
int RunBenchSweepPlot(const std::vector<std::string>& words);
int RunBenchSweepPareto(const std::vector<std::string>& words);

}  // namespace tiercel::tools
