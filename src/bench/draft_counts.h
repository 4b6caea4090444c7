// What a server's /metrics say of guesses of the next tokens (speculative decoding), named as vLLM's.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace tiercel::bench {

struct DraftCounts {
  double drafts = 0;
  double draft_tokens = 0;
  double accepted_tokens = 0;
  std::vector<double> accepted_per_position;

  double AcceptanceRate() const { return draft_tokens > 0 ? accepted_tokens / draft_tokens : 0; }
  // Tokens of a step, with the one that is sure.
  double AcceptanceLength() const { return drafts > 0 ? 1 + accepted_tokens / drafts : 0; }
  double RateAt(size_t position) const { return drafts > 0 ? accepted_per_position[position] / drafts : 0; }
};

// Over all engines; nullopt if the server has no such counters. `text` is a Prometheus exposition; lines that are none are
// passed over.
std::optional<DraftCounts> ReadDraftCounts(std::string_view text);

// What has been added since `before`.
DraftCounts Since(const DraftCounts& before, DraftCounts now);

}  // namespace tiercel::bench
