// For tests: workers that run an attention together, and the memory that they need.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/attention_work.h"
#include "kernels/ops.h"

namespace tiercel::kernels {

struct Free {
  void operator()(void* p) const { std::free(p); }
};
// Whole cache lines.
template <typename T>
using Aligned = std::unique_ptr<T[], Free>;
template <typename T>
Aligned<T> Allocate(int64_t count) {
  const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
  return Aligned<T>(static_cast<T*>(std::aligned_alloc(64, bytes)));
}

class AttentionTeam {
 public:
  // split: keys may be shared out (AttentionArgs::partials), and the workers are threads. `bounds` of their Shares outlive
  // the team.
  AttentionTeam(const KernelTable& kernels, const AttentionArgs& args, int workers, bool split,
                const int32_t* bounds = nullptr)
      : kernels_(kernels), workers_(workers), bounds_(bounds), threads_(split) {
    const int64_t bytes = AttentionPartialsBytes(args, {0, workers, bounds});
    if (!split || bytes == 0) return;
    partials_ = Allocate<uint8_t>(bytes);
    std::memset(partials_.get(), 0, bytes);
  }

  // Every worker does its share of `args`, which are those of the constructor but for where the
  // outputs go. The calling thread has been made ready before (test_kernels.h), once: what a kernel
  // leaves behind meets the next one, as in a team's thread.
  void Run(const AttentionArgs& args) {
    const auto work = [&](int worker) {
      AttentionArgs mine = args;
      mine.partials = partials_.get();
      const int64_t bytes = kernels_.attention_scratch_bytes(mine, workers_);
      const Aligned<uint8_t> scratch = Allocate<uint8_t>(bytes);
      std::memset(scratch.get(), 0xff, bytes);  // NaNs: nothing may be read before it is written
      mine.scratch = scratch.get();
      kernels_.attention(mine, {worker, workers_, bounds_});
    };
    std::vector<std::thread> threads;
    for (int worker = 1; worker < workers_; ++worker) {
      if (threads_) {
        threads.emplace_back([&, worker] {
          kernels_.init_thread();
          work(worker);
        });
      } else {
        work(worker);
      }
    }
    work(0);
    for (std::thread& thread : threads) thread.join();
  }

 private:
  const KernelTable& kernels_;
  const int workers_;
  const int32_t* const bounds_;
  const bool threads_;
  Aligned<uint8_t> partials_;
};

}  // namespace tiercel::kernels
