// Kernels of which a team's last worker is held to a part of its speed, as on a slow core: after each operator that takes
// time it spins for as much of the core's time as is missing, so that neighbors make no difference.
#pragma once

#include <ctime>

#include "kernels/ops.h"

namespace tiercel {

class SlowWorker {
 public:
  // The kernels of `table`, which the last worker takes `factor` times as long for. One at a time in a process.
  static const kernels::KernelTable* Make(const kernels::KernelTable& table, double factor) {
    static kernels::KernelTable slow;
    whole_ = table;
    factor_ = factor;
    slow = table;
    slow.matmul = Run<&kernels::KernelTable::matmul>;
    slow.quant_matmul = Run<&kernels::KernelTable::quant_matmul>;
    slow.block_matmul = Run<&kernels::KernelTable::block_matmul>;
    slow.fp8_matmul = Run<&kernels::KernelTable::fp8_matmul>;
    slow.qk_norm_rope = Run<&kernels::KernelTable::qk_norm_rope>;
    slow.attention = Run<&kernels::KernelTable::attention>;
    return &slow;
  }

 private:
  template <auto kOperator, typename Args>
  static void Run(const Args& args, Share share) {
    const double begin = Seconds();
    (whole_.*kOperator)(args, share);
    if (share.index + 1 < share.count) return;
    const double until = begin + factor_ * (Seconds() - begin);
    while (Seconds() < until) {
    }
  }
  static double Seconds() {  // of the thread
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }

  static inline kernels::KernelTable whole_;
  static inline double factor_ = 1;
};

}  // namespace tiercel
