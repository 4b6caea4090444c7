#include "kernels/worker_shares.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <map>

#include "base/split.h"

namespace tiercel::kernels {
namespace {

constexpr int kMaxShare = 1000;

std::vector<int> UnlessEqual(std::vector<int> shares) {
  if (std::count(shares.begin(), shares.end(), shares[0]) == std::ssize(shares)) shares.clear();
  return shares;
}

// Operations a second of the calling thread, in the best of short rounds: those that nothing disturbs.
double Speed(const KernelTable& kernels) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kRound = std::chrono::microseconds(50);
  constexpr auto kAll = std::chrono::milliseconds(20);  // the clock rises meanwhile
  const Clock::time_point begin = Clock::now();
  double best = 0;
  for (int64_t iterations = 64; Clock::now() - begin < kAll;) {
    const Clock::time_point start = Clock::now();
    const int64_t done = kernels.peak_matmul(iterations);
    const Clock::duration took = Clock::now() - start;
    if (took < kRound) {
      iterations *= 2;
    } else {
      best = std::max(best, static_cast<double>(done) / std::chrono::duration<double>(took).count());
    }
  }
  return best;
}

}  // namespace

std::vector<int> SharesBySpeed(std::span<const double> speeds, std::span<const int> kinds) {
  std::map<int, std::vector<double>> by_kind;
  for (size_t i = 0; i < kinds.size(); ++i) by_kind[kinds[i]].push_back(speeds[i]);
  std::map<int, double> speed_of;
  double fastest = 0;
  for (auto& [kind, all] : by_kind) {
    const auto middle = all.begin() + std::ssize(all) / 2;
    std::nth_element(all.begin(), middle, all.end());
    speed_of[kind] = *middle;
    fastest = std::max(fastest, *middle);
  }
  std::vector<int> shares;
  for (const int kind : kinds) {
    const double part = fastest > 0 ? speed_of[kind] / fastest : 1;
    shares.push_back(std::max(1, static_cast<int>(std::lround(part * kFullShare))));
  }
  return UnlessEqual(std::move(shares));
}

std::vector<int> MeasureShares(const KernelTable& kernels, std::span<const int> kinds, platform::WorkerTeam* team) {
  std::vector<double> speeds(kinds.size());
  team->Run([&](int worker) { speeds[static_cast<size_t>(worker)] = Speed(kernels); });
  return SharesBySpeed(speeds, kinds);
}

Expected<std::vector<int>> ParseShares(std::string_view text, int workers) {
  std::vector<int> shares;
  for (const std::string_view part : Split(text, ',')) {
    int share = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), share);
    if (error != std::errc() || end != part.data() + part.size() || share < 1 || share > kMaxShare) break;
    shares.push_back(share);
  }
  const auto numbers = std::count(text.begin(), text.end(), ',') + 1;
  if (std::ssize(shares) != numbers || numbers != workers) {
    return Unexpected(InvalidArgument("TIERCEL_CPU_SHARES: found \"{}\", expected a number from 1 to {} for each of {} "
                                      "workers, with commas between them", text.substr(0, 64), kMaxShare, workers));
  }
  return UnlessEqual(std::move(shares));
}

std::string DescribeShares(std::span<const int> shares, int ranks) {
  std::string text;
  const size_t of_rank = shares.size() / static_cast<size_t>(ranks);
  for (size_t i = 0; i < shares.size();) {
    const size_t rank_end = (i / of_rank + 1) * of_rank;
    size_t end = i + 1;
    while (end < rank_end && shares[end] == shares[i]) ++end;
    text += fmt::format("{}{} × {}", i == 0 ? "" : i % of_rank == 0 ? " | " : ", ", end - i, shares[i]);
    i = end;
  }
  return text;
}

}  // namespace tiercel::kernels
