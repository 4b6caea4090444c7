// The Cholesky factorization that GPTQ needs.
#pragma once

#include <cstdint>

#include "platform/worker_team.h"

namespace tiercel::quantize {

// A = R·Rᵀ with R upper triangular, for a symmetric positive definite A [k, k] of which the upper triangle is read;
// R takes its place, what lies below the diagonal stays. False: A has no such factor in FP32.
bool FactorUpper(int64_t k, platform::WorkerTeam* team, float* a);

}  // namespace tiercel::quantize
