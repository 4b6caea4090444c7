#include "tools/commands.h"

#include <fmt/format.h>

namespace tiercel::tools {
namespace {

constexpr Subcommand kSubcommands[] = {
    {"serve", "Serve a model over the OpenAI API.", &RunServe, &DescribeServe},
    {"chat", "Talk to a running server.", &RunChat, &DescribeChat},
    {"complete", "Let a running server complete text.", &RunComplete, &DescribeComplete},
    {"run-batch", "Run a file of requests, without a server.", &RunRunBatch, &DescribeRunBatch},
    {"eval", "Measure how well a model predicts a text.", &RunEval, &DescribeEval},
    {"bench", "Measure a server, or the engine in this process.", &RunBench, nullptr,
     &BenchSubcommands},
    {"quantize", "Write a float model as W8A8.", &RunQuantize, &DescribeQuantize},
    {"collect-env", "Show what this machine offers, for reports.", &RunCollectEnv, &DescribeCollectEnv},
    {"health", "Ask a server whether it serves.", &RunHealth, &DescribeHealth},
    {"share-files", "Write the man pages and the shells' completions.", &RunShareFiles,
     &DescribeShareFiles},
};

}  // namespace

std::span<const Subcommand> Subcommands() { return kSubcommands; }

std::string QuotedNames(std::span<const Subcommand> commands) {
  std::string text;
  for (const Subcommand& command : commands) {
    text += fmt::format("{}'{}'", text.empty() ? "" : ", ", command.name);
  }
  return text;
}

std::string PlainNames(std::span<const Subcommand> commands, std::string_view separator) {
  std::string text;
  for (const Subcommand& command : commands) {
    text += fmt::format("{}{}", text.empty() ? "" : separator, command.name);
  }
  return text;
}

}  // namespace tiercel::tools
