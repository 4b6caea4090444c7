// GGUF's blocks of 256 weights ("K"), whose groups' scales and minima are integers times one number.
#pragma once

#include <cstdint>

namespace tiercel::quantize {

// The inputs' errors count h[i] times.
void Q4_K(const float* w, const float* h, uint8_t* out);
void Q5_K(const float* w, const float* h, uint8_t* out);
void Q6_K(const float* w, const float* h, uint8_t* out);

}  // namespace tiercel::quantize
