#include "tools/commands.h"

#include <fmt/format.h>

#include <cstdio>

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
    {"tune", "Find the flags that make a load run best here.", &RunTune, &DescribeTune},
    {"quantize", "Write a float model with INT8 or INT4 weights, or as GGUF.", &RunQuantize, &DescribeQuantize},
    {"comm-check", "Show what the links between several processes do.", &RunCommCheck, &DescribeCommCheck},
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

int RunPart(std::string_view name, std::span<const Subcommand> parts, const std::vector<std::string>& words) {
  const std::string usage = fmt::format("{} {{{}}} ... (--help says more of each)", name, PlainNames(parts));
  if (!words.empty() && (words[0] == "-h" || words[0] == "--help")) {
    std::fputs(fmt::format("usage: {}\n\n", usage).c_str(), stdout);
    for (const Subcommand& part : parts) {
      std::fputs(fmt::format("  {:<12}{}\n", part.name, part.summary).c_str(), stdout);
    }
    return kExitOk;
  }
  for (const Subcommand& part : parts) {
    if (!words.empty() && part.name == words[0]) return part.run({words.begin() + 1, words.end()});
  }
  const std::string choices = QuotedNames(parts);
  return UsageError({usage, "", ""}, name,
                    words.empty()
                        ? fmt::format("the following arguments are required: {}", choices)
                        : fmt::format("invalid choice: '{}' (choose from {})", words[0], choices));
}

}  // namespace tiercel::tools
