// What this machine can do at this moment: the yardstick that benchmarks divide by. Measured in
// the same run as the thing that is judged, because neighbors and clocks move both.
#pragma once

#include "kernels/environment.h"

namespace tiercel::kernels {

struct MachineLimits {
  double read_gb_per_s = 0;     // DRAM, huge pages, every worker one sequential stream
  double matmul_gflop_per_s = 0;  // the ISA's matmul instruction from registers, all workers
  double int8_gop_per_s = 0;      // and that of its quantized matmul
};

// More than a shared L3 leaves one guest; over many gigabytes a virtual machine may read more slowly.
inline constexpr int64_t kReadBytes = int64_t{512} << 20;

// Takes about half a second and `read_bytes` of memory, each read once a round; medians of several
// rounds.
MachineLimits MeasureLimits(const Environment& environment, int64_t read_bytes = kReadBytes);

}  // namespace tiercel::kernels
