#include "kernels/machine_limits.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>

#include "platform/buffer.h"

namespace tiercel::kernels {
namespace {

constexpr int kRounds = 5;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The median over rounds of (work done by all workers) / (seconds until the last was ready).
template <typename F>
double MedianRate(platform::WorkerTeam& team, F&& work) {
  std::array<double, kRounds> rates{};
  for (double& rate : rates) {
    std::atomic<int64_t> done{0};
    const double begin = Now();
    team.Run([&](int worker) { done.fetch_add(work(worker), std::memory_order_relaxed); });
    rate = static_cast<double>(done.load()) / (Now() - begin);
  }
  std::nth_element(rates.begin(), rates.begin() + kRounds / 2, rates.end());
  return rates[kRounds / 2];
}

// Operations a second of all workers.
double PeakRate(platform::WorkerTeam& team, int64_t (*peak)(int64_t iterations)) {
  // Calibrates to about 20 ms a round, so that the dispatch does not count.
  int64_t iterations = 1 << 12;
  for (;;) {
    const double begin = Now();
    peak(iterations);
    if (Now() - begin > 0.02) break;
    iterations *= 2;
  }
  return MedianRate(team, [&](int) { return peak(iterations); });
}

}  // namespace

MachineLimits MeasureLimits(const Environment& environment, int64_t read_bytes) {
  MachineLimits limits;
  platform::WorkerTeam& team = *environment.team;
  const KernelTable& kernels = *environment.kernels;

  limits.matmul_gflop_per_s = PeakRate(team, kernels.peak_matmul) * 1e-9;
  limits.int8_gop_per_s = PeakRate(team, kernels.peak_matmul_i8) * 1e-9;

  Expected<platform::Buffer> buffer = platform::Buffer::Allocate(read_bytes);
  if (!buffer) return limits;
  const int64_t part = read_bytes / team.size() / 4096 * 4096;
  const auto part_of = [&](int worker) { return buffer->as<uint8_t>() + worker * part; };
  team.Run([&](int worker) { std::memset(part_of(worker), worker + 1, part); });
  std::atomic<uint64_t> sink{0};
  limits.read_gb_per_s = MedianRate(team, [&](int worker) {
                           sink.fetch_xor(kernels.read_stream(part_of(worker), part));
                           return part;
                         }) * 1e-9;
  return limits;
}

}  // namespace tiercel::kernels
