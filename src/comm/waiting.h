// Waiting for other processes: how long to spin before sleeping, and when they are late.
#pragma once

#include <string>
#include <thread>

#include "base/clock.h"
#include "base/status.h"

namespace tiercel::comm {

inline std::string DescribeProcess(int index, const std::string& host) {
  return fmt::format("process {} ({})", index, host);
}

inline Status Late(const std::string& who, double seconds) {
  return Unavailable("nothing came from {} within {} s (--distributed-timeout-seconds)", who, seconds);
}

class Waiting {
 public:
  // Without an end: `seconds` < 0.
  explicit Waiting(double seconds) : seconds_(seconds) {}

  void Progressed() {
    last_ = SteadyClock().Now();
    spins_ = 0;
  }
  // A message within a machine or a fast network takes some 10 to 50 µs; a call that finds nothing about one.
  bool MaySpin() const { return spins_ < kSpins; }
  void Spin() {
    if (++spins_ % kBetweenYields == 0) std::this_thread::yield();  // the other process may need this core
  }
  bool over() const { return seconds_ >= 0 && SteadyClock().Now() - last_ > seconds_; }

 private:
  static constexpr int kSpins = 64, kBetweenYields = 16;
  const double seconds_;
  double last_ = SteadyClock().Now();
  int spins_ = 0;
};

}  // namespace tiercel::comm
