// Reads a command line by an OptionTable the way Python's argparse, with vLLM's additions, does:
// '_' for '-', unambiguous prefixes, --flag=value, --no-flag, several words, dotted JSON keys,
// -O0 … -O3, --config files. Libraries at hand do not accept prefixes or dotted keys, and scripts
// written for vLLM rely on both.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "options/option_table.h"

namespace tiercel::options {

// The values given, checked for their kind and choices. Get* of an option that was not given
// returns the table's default. Names are without dashes in front and must be in the table.
class ParsedOptions {
 public:
  explicit ParsedOptions(const OptionTable* table) : table_(table) {}

  bool Given(std::string_view name) const;
  bool On(std::string_view name) const;
  std::string String(std::string_view name) const;  // also the text of kJson
  int64_t Int(std::string_view name) const;         // kInt, kHumanInt; 0 if the default is None
  // As Int; outside of the bounds the user's fault, which names the flag and both.
  Expected<int64_t> IntBetween(std::string_view name, int64_t low, int64_t high) const;
  double Float(std::string_view name) const;
  std::vector<std::string> Strings(std::string_view name) const;  // kStrings, kInts, kJsonList

  const OptionTable& table() const { return *table_; }
  const std::vector<std::string>& positional() const { return positional_; }
  // Things to say in the log: repeated flags.
  const std::vector<std::string>& warnings() const { return warnings_; }
  // Given options whose value is not the default, in the table's order.
  std::vector<const OptionSpec*> NonDefault() const;
  // The value as Python's repr would show it: True, 5500, 'mp', ['a', 'b'], {…}.
  std::string Repr(const OptionSpec& spec) const;
  // Whether --help was there, and the topic of --help=topic.
  bool help_wanted() const { return help_wanted_; }
  const std::string& help_topic() const { return help_topic_; }

 private:
  friend class OptionParser;
  const OptionSpec& SpecOf(std::string_view name) const;

  const OptionTable* table_;
  std::map<const OptionSpec*, std::vector<std::string>> values_;  // switches: "True" or "False"
  std::vector<std::string> positional_;
  std::vector<std::string> warnings_;
  bool help_wanted_ = false;
  std::string help_topic_;
};

// At most `max_positional` words without a flag. Messages are argparse's, without the program's
// name in front.
Expected<ParsedOptions> ParseOptions(const OptionTable& table, std::vector<std::string> words,
                                     size_t max_positional);

}  // namespace tiercel::options
