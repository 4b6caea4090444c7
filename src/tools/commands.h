// The tree of commands: what is called, what runs it, and the texts and tables from which help, man
// pages and the shells' completions are made.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/command.h"

namespace tiercel::tools {

struct CommandText {
  const CommandHelp& help;
  const OptionTable& table;
  std::string_view words = "";  // "a|b|c" that the command takes first; "" for none
};

struct Subcommand {
  std::string_view name;
  std::string_view summary;  // a sentence
  int (*run)(const std::vector<std::string>& words);
  CommandText (*describe)();                         // null for one that has only parts
  std::span<const Subcommand> (*parts)() = nullptr;  // of `tiercel bench serve`: serve
};

std::span<const Subcommand> Subcommands();
std::span<const Subcommand> BenchSubcommands();
std::span<const Subcommand> SweepSubcommands();

// "'serve', 'chat'", for messages.
std::string QuotedNames(std::span<const Subcommand> commands);
// "serve,chat", as in usage lines.
std::string PlainNames(std::span<const Subcommand> commands, std::string_view separator = ",");

// Runs the one that the first word names, with those behind it; without one, or with --help, shows `name`'s usage.
int RunPart(std::string_view name, std::span<const Subcommand> parts, const std::vector<std::string>& words);

CommandText DescribeCommCheck();
CommandText DescribeServe();
CommandText DescribeChat();
CommandText DescribeComplete();
CommandText DescribeRunBatch();
CommandText DescribeEval();
CommandText DescribeBenchServe();
CommandText DescribeBenchLatency();
CommandText DescribeBenchThroughput();
CommandText DescribeBenchSweepServe();
CommandText DescribeBenchSweepWorkload();
CommandText DescribeBenchSweepPlot();
CommandText DescribeBenchSweepPareto();
CommandText DescribeTune();
CommandText DescribeQuantize();
CommandText DescribeCollectEnv();
CommandText DescribeHealth();
CommandText DescribeShareFiles();

}  // namespace tiercel::tools
