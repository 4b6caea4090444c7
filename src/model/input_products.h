// The products of a linear's input features over tokens, XᵀX, by the matmul that the model runs on.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bf16.h"
#include "base/status.h"
#include "kernels/environment.h"

namespace tiercel::model {

// products [k, k] += XᵀX, of x [tokens, k]: products of BF16, summed in FP32.
Status AddInputProducts(const std::vector<BF16>& x, int64_t k, kernels::Environment* environment,
                        std::vector<float>* products);

}  // namespace tiercel::model
