// How much of the work each worker of a team gets, where their CPUs are not alike.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/ops.h"
#include "platform/worker_team.h"

namespace tiercel::kernels {

inline constexpr int kFullShare = 32;  // of the fastest kind: the others' are right to 2 %

// Shares as fast as the workers of each kind are in the middle; empty if all get the same.
std::vector<int> SharesBySpeed(std::span<const double> speeds, std::span<const int> kinds);

// The same of the team's workers, each on its CPU. What counts is the matmul instruction on registers, which bounds a
// prefill. Decoding is bound by memory, which the fast cores can use up alone: there no division is wrong. All cores work
// meanwhile, as they will: alone a core may have another clock. Takes 20 ms.
std::vector<int> MeasureShares(const KernelTable& kernels, std::span<const int> kinds, platform::WorkerTeam* team);

// TIERCEL_CPU_SHARES: "2,2,1", a positive number for each worker. Empty if all are the same.
Expected<std::vector<int>> ParseShares(std::string_view text, int workers);

// "8 × 32, 8 × 13": runs of workers with the same share; those of ranks are divided by |.
std::string DescribeShares(std::span<const int> shares, int ranks);

}  // namespace tiercel::kernels
