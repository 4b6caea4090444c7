// For tests: random numbers.
#pragma once

#include <cmath>
#include <numbers>
#include <random>

namespace tiercel::kernels {

// In [0, 1).
inline float Uniform(std::mt19937& random) { return static_cast<float>(random() >> 8) * 0x1p-24f; }

// A normal distribution, by the Box-Muller transform. With every number the distributions of <random> ask for
// logarithms of constants in long double, which clang leaves to the run: 40 % of some tests' time with sanitizers.
class NormalDistribution {
 public:
  explicit NormalDistribution(float mean = 0, float deviation = 1) : mean_(mean), deviation_(deviation) {}

  float operator()(std::mt19937& random) const {
    const float radius = std::sqrt(-2 * std::log(1 - Uniform(random)));
    return mean_ + deviation_ * radius * std::cos(2 * std::numbers::pi_v<float> * Uniform(random));
  }

 private:
  float mean_, deviation_;
};

}  // namespace tiercel::kernels
