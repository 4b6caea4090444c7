#include "bench/draft_counts.h"

#include <algorithm>
#include <charconv>
#include <system_error>

namespace tiercel::bench {
namespace {

// More positions than any server guesses at.
constexpr size_t kMostPositions = 1024;

std::optional<double> NumberAt(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::optional<size_t> PositionOf(std::string_view labels) {
  constexpr std::string_view kLabel = "position=\"";
  const size_t at = labels.find(kLabel);
  if (at == std::string_view::npos) return std::nullopt;
  const std::optional<double> position = NumberAt(labels.substr(at + kLabel.size()));
  if (!position || !(*position >= 0 && *position < kMostPositions)) return std::nullopt;
  return static_cast<size_t>(*position);
}

}  // namespace

std::optional<DraftCounts> ReadDraftCounts(std::string_view text) {
  constexpr std::string_view kBegin = "vllm:spec_decode_num_";
  std::optional<DraftCounts> counts;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const size_t space = line.rfind(' ');
    if (!line.starts_with(kBegin) || space == std::string_view::npos) continue;
    const std::optional<double> value = NumberAt(line.substr(space + 1));
    if (!value) continue;
    const std::string_view name = line.substr(kBegin.size(), line.find_first_of("{ ") - kBegin.size());
    const auto of = [&counts]() -> DraftCounts& { return counts ? *counts : counts.emplace(); };
    if (name == "drafts_total") of().drafts += *value;
    if (name == "draft_tokens_total") of().draft_tokens += *value;
    if (name == "accepted_tokens_total") of().accepted_tokens += *value;
    if (const auto position = PositionOf(line); name == "accepted_tokens_per_pos_total" && position) {
      std::vector<double>& accepted = of().accepted_per_position;
      accepted.resize(std::max(accepted.size(), *position + 1));
      accepted[*position] += *value;
    }
  }
  return counts;
}

DraftCounts Since(const DraftCounts& before, DraftCounts now) {
  now.drafts -= before.drafts;
  now.draft_tokens -= before.draft_tokens;
  now.accepted_tokens -= before.accepted_tokens;
  for (size_t i = 0; i < std::min(now.accepted_per_position.size(), before.accepted_per_position.size()); ++i) {
    now.accepted_per_position[i] -= before.accepted_per_position[i];
  }
  return now;
}

}  // namespace tiercel::bench
