#include <cstring>

#include "kernels/reference/kernels.h"

namespace tiercel::kernels::reference {

int64_t PeakMatmul(int64_t iterations) {
  float acc[8] = {};
  float a = 1.0f, b = 0.5f;
  for (int64_t i = 0; i < iterations; ++i) {
    for (float& x : acc) x += a * b;
    asm volatile("" : "+m"(acc), "+m"(a), "+m"(b));  // keeps the loop as it is written
  }
  return iterations * 8 * 2;
}

uint64_t ReadStream(const void* data, int64_t bytes) {
  uint64_t sum = 0;
  const auto* p = static_cast<const unsigned char*>(data);
  for (int64_t i = 0; i + 8 <= bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, p + i, 8);
    sum ^= word;
  }
  return sum;
}

}  // namespace tiercel::kernels::reference
