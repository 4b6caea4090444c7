// Counter-based random numbers: the number at (seed, position) does not depend on what else was
// drawn, so that a sample is the same under any load, after preemption and with any scheduling.
#pragma once

#include <array>
#include <cstdint>

namespace tiercel::sampling {

// Philox 4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011).
inline std::array<uint32_t, 4> Philox4x32(uint64_t key, uint64_t counter_low,
                                          uint64_t counter_high = 0) {
  std::array<uint32_t, 4> c = {
      static_cast<uint32_t>(counter_low), static_cast<uint32_t>(counter_low >> 32),
      static_cast<uint32_t>(counter_high), static_cast<uint32_t>(counter_high >> 32)};
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// Uniform in [0, 1), 53 bits.
inline double UniformAt(uint64_t seed, uint64_t position) {
  const auto r = Philox4x32(seed, position);
  return static_cast<double>((uint64_t{r[0]} << 21) ^ (r[1] >> 11)) * 0x1p-53;
}

// The seed of sample `index` of a request with seed `seed`. Sample 0 keeps the request's own.
inline uint64_t SampleSeed(uint64_t seed, int index) { return seed + static_cast<uint64_t>(index); }

// The seed of the `counter`-th request that names none.
inline uint64_t DerivedSeed(uint64_t engine_seed, uint64_t counter) {
  const auto r = Philox4x32(engine_seed, counter, /*counter_high=*/1);
  return (uint64_t{r[1]} << 32) | r[0];
}

}  // namespace tiercel::sampling
