#include "options/option_table.h"

#include "base/check.h"

namespace tiercel::options {
namespace {

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

}  // namespace

std::string_view OptionSpec::name() const {
  const std::string_view all = names;
  return all.substr(2, all.find(' ') - 2);
}

std::vector<std::string> OptionSpec::AllNames() const { return Split(names, ' '); }

std::vector<std::string> OptionSpec::ChoiceList() const { return Split(choices, '|'); }

std::string OptionSpec::Display() const {
  std::string text;
  for (const std::string& name : AllNames()) text += (text.empty() ? "" : "/") + name;
  if (kind == Kind::kSwitch) text += "/--no-" + std::string(name());
  return text;
}

OptionTable::OptionTable(std::vector<OptionGroup> groups) : groups_(std::move(groups)) {
  for (const OptionGroup& group : groups_) {
    for (const OptionSpec& spec : group.options) {
      for (const std::string& name : spec.AllNames()) {
        flags_.push_back({name, {&spec, false}});
        if (spec.kind == Kind::kSwitch && name.starts_with("--")) {
          flags_.push_back({"--no-" + name.substr(2), {&spec, true}});
        }
      }
    }
  }
  for (size_t i = 0; i < flags_.size(); ++i) {
    CHECK_MSG(exact_.emplace(flags_[i].first, i).second, "{} is in the table twice",
              flags_[i].first);
  }
}

const OptionSpec* OptionTable::Find(std::string_view name) const {
  const auto it = exact_.find("--" + std::string(name));
  return it == exact_.end() ? nullptr : flags_[it->second].second.spec;
}

Expected<OptionTable::Match> OptionTable::Resolve(const std::string& flag) const {
  if (const auto it = exact_.find(flag); it != exact_.end()) return flags_[it->second].second;
  if (!flag.starts_with("--") || flag.size() < 3) return Match{};
  std::string candidates;
  Match match;
  bool several = false;
  for (const auto& [name, entry] : flags_) {
    if (!name.starts_with(flag)) continue;
    // Two spellings of one thing are no ambiguity.
    if (match.spec != nullptr && (match.spec != entry.spec || match.negated != entry.negated)) {
      several = true;
    }
    match = entry;
    candidates += (candidates.empty() ? "" : ", ") + name;
  }
  if (several) {
    return Unexpected(InvalidArgument("ambiguous option: {} could match {}", flag, candidates));
  }
  return match;
}

const OptionTable& ServeOptionTable() {
  // A constant, built on first use; every command reads the same one.
  static const OptionTable table = [] {
    std::vector<OptionGroup> groups;
    for (const auto part : {ModelOptionGroups(), ParallelOptionGroups(), CacheOptionGroups(),
                            MultimodalOptionGroups(), EngineOptionGroups(),
                            ObservabilityOptionGroups(), FrontendOptionGroups()}) {
      groups.insert(groups.end(), part.begin(), part.end());
    }
    return OptionTable(std::move(groups));
  }();
  return table;
}

OptionTable WithServeOptions(std::vector<OptionGroup> groups) {
  const std::vector<OptionGroup>& serve = ServeOptionTable().groups();
  groups.insert(groups.end(), serve.begin(), serve.end());
  return OptionTable(std::move(groups));
}

}  // namespace tiercel::options
