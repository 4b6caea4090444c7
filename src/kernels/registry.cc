#include "kernels/registry.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <thread>

#include "kernels/architecture.h"
#include "kernels/reference/table.h"

namespace tiercel::kernels {
namespace {

// Of two rates, by how much they differ: no more than noise between like instructions, and no less than between unlike ones
// that nobody disturbs.
constexpr double kEqual = 1.1, kClear = 1.6;

const Peak& Chosen(std::span<const Peak> peaks) {
  const Peak* chosen = &peaks[0];
  for (const Peak& peak : peaks) {
    if (peak.gflop_per_s > kDecisive * chosen->gflop_per_s) chosen = &peak;
  }
  return *chosen;
}

double Seconds(const KernelTable& kernels, int64_t iterations, int64_t* flop) {
  const auto begin = std::chrono::steady_clock::now();
  *flop = kernels.peak_matmul(iterations);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// How often to run each so that a round takes `kRound` seconds: hundreds of times what reading the clock takes.
std::vector<int64_t> IterationsOfARound(std::span<const Peak> peaks) {
  constexpr double kRound = 15e-6;
  std::vector<int64_t> iterations;
  int64_t flop = 0;
  for (const Peak& peak : peaks) {
    int64_t n = 64;
    const auto seconds = [&] {
      const double once = Seconds(*peak.kernels, n, &flop);
      return std::min(once, Seconds(*peak.kernels, n, &flop));
    };
    while (seconds() < kRound) n *= 2;
    iterations.push_back(n);
  }
  return iterations;
}

// The best of short rounds, in turns: a round that a neighbor, an interrupt or a slow clock after the first wide
// instruction disturbs is not the best one. A neighbor on the core's other hardware thread stays for all of a few rounds,
// and levels the rates; so there are more, with pauses, until the rates decide.
void MeasureOnThisThread(std::vector<Peak>* peaks) {
  constexpr int kRounds = 8, kAttempts = 20;
  constexpr auto kPause = std::chrono::milliseconds(1);  // about the time that a scheduler leaves a thread on a CPU
  const std::vector<int64_t> iterations = IterationsOfARound(*peaks);
  int64_t flop = 0;
  for (int attempt = 0; attempt < kAttempts && (attempt == 0 || !Decided(*peaks)); ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(kPause);
    for (int round = 0; round < kRounds; ++round) {
      for (size_t i = 0; i < peaks->size(); ++i) {
        Peak& peak = (*peaks)[i];
        const double seconds = Seconds(*peak.kernels, iterations[i], &flop);
        peak.gflop_per_s = std::max(peak.gflop_per_s, static_cast<double>(flop) / seconds * 1e-9);
      }
    }
  }
}

}  // namespace

std::vector<const KernelTable*> RunnableKernels(const platform::CpuFeatures& cpu) {
  std::vector<const KernelTable*> tables = VectorKernels(cpu);
  tables.insert(tables.begin(), &reference::Table());
  return tables;
}

std::vector<const KernelTable*> MissingKernels(const platform::CpuFeatures& cpu) {
  const std::vector<const KernelTable*> here = RunnableKernels(cpu);
  std::vector<const KernelTable*> missing;
  for (const KernelTable* table : VectorKernels(EveryFeature())) {
    if (std::find(here.begin(), here.end(), table) == here.end()) missing.push_back(table);
  }
  return missing;
}

bool Decided(std::span<const Peak> peaks) {
  const double chosen = Chosen(peaks).gflop_per_s;
  return std::all_of(peaks.begin(), peaks.end(), [&](const Peak& peak) {
    const double ratio = std::max(peak.gflop_per_s, chosen) / std::min(peak.gflop_per_s, chosen);
    return ratio < kEqual || ratio > kClear;
  });
}

std::vector<Peak> MeasurePeaks(std::span<const KernelTable* const> tables) {
  std::vector<Peak> peaks;
  for (const KernelTable* table : tables) peaks.push_back({table, 0});
  if (peaks.empty()) return peaks;
  try {
    // Of its own: the state of tile registers, which costs at each switch of threads, goes with it.
    std::thread(MeasureOnThisThread, &peaks).join();
  } catch (const std::system_error&) {
    peaks.clear();  // no threads: the worker team's message says so
  }
  return peaks;
}

std::vector<Peak> MeasurePeaks(const platform::CpuFeatures& cpu) {
  const std::vector<const KernelTable*> tables = RunnableKernels(cpu);
  const auto first = std::find_if(tables.begin(), tables.end(),
                                  [](const KernelTable* t) { return t->isa == std::string_view("avx512"); });
  return MeasurePeaks({first, tables.end()});
}

const std::vector<Peak>& MachinePeaks() {
  static const std::vector<Peak> peaks = MeasurePeaks(platform::CpuFeatures::Detect());
  return peaks;
}

const KernelTable* ChooseByPeak(std::span<const Peak> peaks) { return Chosen(peaks).kernels; }

Expected<const KernelTable*> SelectKernels(const platform::CpuFeatures& cpu,
                                           std::string_view override, std::span<const Peak> peaks) {
  const std::vector<const KernelTable*> tables = RunnableKernels(cpu);
  if (override.empty()) return peaks.empty() ? tables.back() : ChooseByPeak(peaks);
  std::string names;
  const KernelTable* chosen = nullptr;
  for (const KernelTable* table : tables) {  // ascending: the last of a name is the best of it
    if (table->isa == override) chosen = table;
    if (names.ends_with(table->isa)) continue;
    names += names.empty() ? "" : ", ";
    names += table->isa;
  }
  if (chosen != nullptr) return chosen;
  return Unexpected(InvalidArgument(
      "TIERCEL_CPU_ISA: found \"{}\", expected one that this CPU runs: {}", override, names));
}

}  // namespace tiercel::kernels
