#include "serving/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string_view>

#include "base/clock.h"

namespace tiercel::serving {
namespace {

constexpr double kMinInterval = 0.1;
constexpr int kBarWidth = 30;

std::string_view Noun(ProgressBar::Unit unit) {
  switch (unit) {
    case ProgressBar::Unit::kBytes: return "bytes";
    case ProgressBar::Unit::kTokens: return "tokens";
    case ProgressBar::Unit::kRequests: return "requests";
    case ProgressBar::Unit::kIterations: return "iterations";
  }
  return "";
}

}  // namespace

ProgressBar::ProgressBar(std::string label, bool enabled, Unit unit)
    : label_(std::move(label)),
      enabled_(enabled && ::isatty(STDERR_FILENO) == 1),
      unit_(unit),
      start_(SteadyClock().Now()) {}

void ProgressBar::Finish() {
  const std::lock_guard lock(mutex_);
  if (drawn_) std::fputc('\n', stderr);
  drawn_ = false;
}

std::string ProgressBar::Human(int64_t amount) const {
  return unit_ == Unit::kBytes ? HumanBytes(amount) : fmt::format("{} {}", amount, Noun(unit_));
}

void ProgressBar::Update(int64_t done, int64_t total) {
  if (!enabled_) return;
  const double now = SteadyClock().Now();
  const std::lock_guard lock(mutex_);
  if (done < total && now - last_drawn_ < kMinInterval) return;
  last_drawn_ = now;
  Draw(done, total, now);
}

void ProgressBar::Draw(int64_t done, int64_t total, double now) {
  const double share =
      total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0) : 0;
  const int filled = static_cast<int>(share * kBarWidth);
  std::string bar(static_cast<size_t>(filled), '=');
  bar.resize(kBarWidth, ' ');
  const double rate = static_cast<double>(done) / std::max(now - start_, 1e-3);
  // Of what there are few, a rate may be below 1.
  const bool few = unit_ == Unit::kRequests || unit_ == Unit::kIterations;
  const std::string speed = few ? fmt::format("{:.2f} {}", rate, Noun(unit_))
                                : Human(static_cast<int64_t>(rate));
  const std::string line = fmt::format("\r{}: {:3.0f}% [{}] {} of {}, {}/s\x1b[K", label_,
                                       share * 100, bar, Human(done), Human(total), speed);
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace tiercel::serving
