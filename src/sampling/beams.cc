#include "sampling/beams.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace tiercel::sampling {

namespace {

// Where scores are equal the earlier one stays before the later one.
constexpr auto kByScore = [](const auto& a, const auto& b) { return a.score > b.score; };

}  // namespace

Beams::Beams(BeamOptions options) : options_(std::move(options)) {
  CHECK(options_.width >= 1 && options_.width <= kMaxBeamWidth);
  CHECK(options_.prompt_tokens >= 1 && options_.max_tokens >= 1);
  live_.push_back({});
}

double Beams::Score(double logprob, int64_t tokens) const {
  return logprob / std::pow(static_cast<double>(tokens), options_.length_penalty);
}

bool Beams::IsEnd(int32_t token) const {
  const auto& ends = options_.end_tokens;
  return std::find(ends.begin(), ends.end(), token) != ends.end();
}

Beams::Beam Beams::Chosen(const Growth& growth, const std::vector<TokenLogprob>& next) {
  Node node{live_[static_cast<size_t>(growth.beam)].node, growth.token.token, {}};
  if (options_.logprobs) {
    auto shown = std::ssize(next);
    if (*options_.logprobs >= 0) shown = std::min(shown, std::ptrdiff_t{*options_.logprobs});
    node.top.push_back(growth.token);
    node.top.insert(node.top.end(), next.begin(), next.begin() + shown);
  }
  nodes_.push_back(std::move(node));
  return {static_cast<int32_t>(nodes_.size() - 1), growth.logprob, growth.score};
}

void Beams::Complete(Beam beam) {
  const auto at = std::upper_bound(complete_.begin(), complete_.end(), beam, kByScore);
  complete_.insert(at, beam);
  if (std::ssize(complete_) > options_.width) complete_.pop_back();
}

void Beams::Grow(std::span<const std::vector<TokenLogprob>> next) {
  CHECK_EQ(std::ssize(next), std::ssize(live_));
  std::vector<Growth> growths, ends;
  for (size_t i = 0; i < live_.size(); ++i) {
    const size_t taken = std::min(next[i].size(), 2 * static_cast<size_t>(options_.width));
    for (const TokenLogprob& token : std::span(next[i]).first(taken)) {
      const bool is_end = IsEnd(token.token);
      const double logprob = live_[i].logprob + static_cast<double>(token.logprob);
      const int64_t tokens = options_.prompt_tokens + length_ + (is_end ? 0 : 1);
      (is_end ? ends : growths)
          .push_back({static_cast<int>(i), token, logprob, Score(logprob, tokens)});
    }
  }
  std::stable_sort(growths.begin(), growths.end(), kByScore);
  growths.resize(std::min(growths.size(), static_cast<size_t>(options_.width)));
  for (const Growth& end : ends) {
    if (std::ssize(complete_) == options_.width && !kByScore(end, complete_.back())) continue;
    Complete(Chosen(end, next[static_cast<size_t>(end.beam)]));
  }
  std::vector<Beam> grown;
  for (const Growth& growth : growths) {
    grown.push_back(Chosen(growth, next[static_cast<size_t>(growth.beam)]));
  }
  live_ = std::move(grown);
  ++length_;
}

bool Beams::done() const {
  if (live_.empty() || length_ == options_.max_tokens) return true;
  if (std::ssize(complete_) < options_.width) return false;
  // Sums only fall from here on, so no answer of a live beam is better than its sum over the power of
  // whichever length it may end with is the kindest.
  const int64_t shortest = options_.prompt_tokens + length_;
  const int64_t longest = options_.prompt_tokens + options_.max_tokens;
  return std::all_of(live_.begin(), live_.end(), [&](const Beam& beam) {
    const double best = std::max(Score(beam.logprob, shortest), Score(beam.logprob, longest));
    return best <= complete_.back().score;
  });
}

std::vector<int32_t> Beams::TokensOf(int32_t node) const {
  std::vector<int32_t> tokens;
  for (; node >= 0; node = nodes_[static_cast<size_t>(node)].parent) {
    tokens.push_back(nodes_[static_cast<size_t>(node)].token);
  }
  std::reverse(tokens.begin(), tokens.end());
  return tokens;
}

Beams::Answer Beams::AnswerOf(const Beam& beam) const {
  Answer answer;
  answer.tokens = TokensOf(beam.node);
  answer.ended = !answer.tokens.empty() && IsEnd(answer.tokens.back());
  if (!options_.logprobs) return answer;
  for (int32_t node = beam.node; node >= 0; node = nodes_[static_cast<size_t>(node)].parent) {
    answer.top.push_back(nodes_[static_cast<size_t>(node)].top);
  }
  std::reverse(answer.top.begin(), answer.top.end());
  return answer;
}

std::vector<Beams::Answer> Beams::Take() {
  CHECK(done());
  std::vector<Beam> all = std::exchange(complete_, {});
  all.insert(all.end(), live_.begin(), live_.end());
  live_.clear();
  std::stable_sort(all.begin(), all.end(), kByScore);
  std::vector<Answer> answers;
  for (const Beam& beam : all) {
    if (std::ssize(answers) == options_.width) break;
    answers.push_back(AnswerOf(beam));
  }
  return answers;
}

}  // namespace tiercel::sampling
