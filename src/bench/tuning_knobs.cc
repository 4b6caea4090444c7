#include "bench/tuning_knobs.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace tiercel::bench {
namespace {

using Words = std::vector<std::string>;
using Values = std::vector<TuningValue>;

std::string Number(int64_t value) { return std::to_string(value); }

// vLLM-Ascend's keys lie in one JSON flag, of which dotted parts can be given one by one.
std::string Additional(std::string_view key) { return fmt::format("--additional-config.{}", key); }

struct KnobKind {
  const char* name;
  const char* group;  // knobs of one group are tried in all combinations
  std::vector<const char*> flags;  // that decide it: given by the user, it is not varied
  std::vector<TuningValue> (*values)(const TuningSubject&);  // besides the start
};

Values QuantizationValues(const TuningSubject& subject) {
  if (!subject.float_weights) return {};
  return {{{"--quantization", "int8"}, true},
          {{"--quantization", "int8", Additional("quantize_lm_head"), "true"}, true},
          {{"--quantization", "int4"}, true},
          {{"--quantization", "int4", Additional("quantize_lm_head"), "true"}, true}};
}

Values CacheValues(const TuningSubject& subject) {
  if (!subject.float_cache) return {};
  return {{{"--kv-cache-dtype", "int8"}, true}, {{"--kv-cache-dtype", "fp8"}, true}};
}

bool Divides(int64_t ranks, const TuningSubject& subject) {
  return subject.num_heads % ranks == 0 &&
         (subject.num_kv_heads % ranks == 0 || ranks % subject.num_kv_heads == 0);
}

// Ways to divide the cores among ranks and engines: into as many parts as there are NUMA nodes, and into twice
// as many. A part keeps a core at least, and an engine a request.
Values RankValues(const TuningSubject& subject) {
  std::set<std::pair<int, int>> ways;  // ranks, engines
  for (const int parts : {subject.nodes, 2 * subject.nodes}) {
    for (int ranks = 1; ranks <= parts; ++ranks) {
      const int engines = parts / ranks;
      if (parts % ranks != 0 || parts > subject.cores || engines > subject.concurrency) continue;
      if (parts > 1 && Divides(ranks, subject)) ways.insert({ranks, engines});
    }
  }
  // FlashComm has an effect in steps of more tokens than its threshold alone.
  constexpr int64_t kFlashCommTokens = 1000;
  const bool long_steps = subject.concurrency * subject.longest_prompt > kFlashCommTokens;
  Values values;
  for (const auto& [ranks, engines] : ways) {
    Words words;
    if (ranks > 1) words.insert(words.end(), {"--tensor-parallel-size", Number(ranks)});
    if (engines > 1) words.insert(words.end(), {"--data-parallel-size", Number(engines)});
    values.push_back({words, ranks > 1});
    if (ranks == 1 || !long_steps) continue;
    words.insert(words.end(), {Additional("enable_flashcomm1"), "true"});
    values.push_back({words, true});
  }
  return values;
}

// All prompts of the load that could come at once in one step, in two, in four and so on, where that differs from the
// default.
Values BatchedTokensValues(const TuningSubject& subject) {
  constexpr int64_t kDefault = 2048, kFewest = 256, kMost = 8192;
  const int64_t at_once = subject.concurrency * subject.longest_prompt;
  Values values;
  for (int64_t tokens = kMost; tokens >= kFewest; tokens /= 2) {
    // Of a budget above what there is to compute, the next one below it shows as much.
    if (tokens == kDefault || tokens >= 2 * at_once || (tokens > kDefault && at_once <= kDefault)) continue;
    values.push_back({{"--max-num-batched-tokens", Number(tokens)}});
  }
  return values;
}

// More than come at once are as good as any.
Values SeqsValues(const TuningSubject& subject) {
  if (subject.concurrency < 4) return {};
  return {{{"--max-num-seqs", Number((subject.concurrency + 1) / 2)}}};
}

Values PrefetchValues(const TuningSubject&) {
  const std::string enabled = Additional("weight_prefetch_config.enabled");
  Words part{enabled, "true"};
  for (const char* matrix : {"attn.qkv", "attn.o", "mlp.gate_up", "mlp.down"}) {
    part.insert(part.end(), {Additional(fmt::format("weight_prefetch_config.prefetch_ratio.{}", matrix)), "0.04"});
  }
  return {{{enabled, "true"}}, {part}};
}

// Where workers have whole KV heads, keys are never split.
Values PaShapeValues(const TuningSubject& subject) {
  if (subject.num_kv_heads % subject.cores == 0) return {};
  constexpr int64_t kMostSizes = 32;
  std::string list;
  for (int64_t size = 1; size <= std::min(subject.concurrency, kMostSizes); ++size) {
    list += fmt::format("{}{}", list.empty() ? "" : ",", size);
  }
  return {{{Additional("pa_shape_list"), "[" + list + "]"}}};
}

Values AsyncValues(const TuningSubject&) { return {{{"--no-async-scheduling"}}}; }

// Those first that are likely to give most: what comes after is measured faster.
const std::vector<KnobKind>& Kinds() {
  static const std::vector<KnobKind> kinds = {
      {"quantization", "quantization", {"quantization"}, &QuantizationValues},
      {"ranks",
       "ranks",
       {"tensor-parallel-size", "data-parallel-size", "data-parallel-size-local", "data-parallel-rank",
        "distributed-executor-backend", "numa-bind-nodes", "numa-bind-cpus"},
       &RankValues},
      {"max-num-batched-tokens",
       "batching",
       {"max-num-batched-tokens", "performance-mode", "enable-chunked-prefill"},
       &BatchedTokensValues},
      {"max-num-seqs", "batching", {"max-num-seqs", "performance-mode"}, &SeqsValues},
      {"kv-cache-dtype", "kv-cache-dtype", {"kv-cache-dtype"}, &CacheValues},
      {"prefetch", "prefetch", {"additional-config"}, &PrefetchValues},
      {"pa-shape-list", "pa-shape-list", {"additional-config"}, &PaShapeValues},
      {"async-scheduling", "async-scheduling", {"async-scheduling"}, &AsyncValues},
  };
  return kinds;
}

}  // namespace

const std::vector<std::string>& TuningKnobNames() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const KnobKind& kind : Kinds()) all.push_back(kind.name);
    return all;
  }();
  return names;
}

std::vector<std::string> TuningKnobs::WordsOf(const Setting& setting) const {
  std::vector<std::string> words;
  for (size_t i = 0; i < knobs.size(); ++i) {
    const std::vector<std::string>& more = knobs[i].values[static_cast<size_t>(setting[i])].words;
    words.insert(words.end(), more.begin(), more.end());
  }
  return words;
}

bool TuningKnobs::ChangesTokens(const Setting& setting) const {
  for (size_t i = 0; i < knobs.size(); ++i) {
    if (knobs[i].values[static_cast<size_t>(setting[i])].changes_tokens) return true;
  }
  return false;
}

Expected<TuningKnobs> MakeTuningKnobs(const TuningSubject& subject,
                                      const std::function<bool(std::string_view flag)>& given,
                                      const std::vector<std::string>& names) {
  const std::vector<std::string>& known = TuningKnobNames();
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    return Unexpected(InvalidArgument("argument --knobs: found '{}', expected some of {}", name,
                                      fmt::join(known, ", ")));
  }
  TuningKnobs result;
  std::string group;
  for (const KnobKind& kind : Kinds()) {
    if (!names.empty() && std::find(names.begin(), names.end(), kind.name) == names.end()) continue;
    if (std::any_of(kind.flags.begin(), kind.flags.end(), given)) continue;
    Values values = kind.values(subject);
    if (subject.exact) {
      std::erase_if(values, [](const TuningValue& value) { return value.changes_tokens; });
    }
    if (values.empty()) continue;
    values.insert(values.begin(), TuningValue{});
    if (group != kind.group) result.space.groups.emplace_back();
    group = kind.group;
    result.space.groups.back().push_back(static_cast<int>(result.knobs.size()));
    result.space.num_values.push_back(static_cast<int>(values.size()));
    result.knobs.push_back({kind.name, std::move(values)});
  }
  return result;
}

}  // namespace tiercel::bench
