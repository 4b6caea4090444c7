#include "quantize/super_blocks.h"

#include "quantize/group_fit.h"

namespace tiercel::quantize {
namespace {

constexpr int kBlock = 256, kPasses = 3;

// Group g's line is d · scale[g], dmin · min[g].
struct Lines {
  float d = 0, dmin = 0;
  int scale[8] = {}, min[8] = {};

  Line of(int g) const { return {d * static_cast<float>(scale[g]), dmin * static_cast<float>(min[g])}; }
};

constexpr int kLargestScale = 63;  // six bits

int NearestScale(float value, float unit) {
  return static_cast<int>(Round(std::min<float>(kLargestScale, value * Inverse(unit))));
}

// The best of a group's scale and minimum and their neighbors; its loss.
template <int kMost>
double Improve(const float* w, const float* h, int g, Lines* lines) {
  const int scale = lines->scale[g], min = lines->min[g];
  double least = std::numeric_limits<double>::infinity();
  int best_scale = scale, best_min = min;
  for (int s = std::max(scale - 1, 0); s <= std::min(scale + 1, kLargestScale); ++s) {
    for (int m = std::max(min - 1, 0); m <= std::min(min + 1, kLargestScale); ++m) {
      lines->scale[g] = s;
      lines->min[g] = m;
      const double loss = Loss<kMost>(w, h, lines->of(g));
      if (loss < least) {
        least = loss;
        best_scale = s;
        best_min = m;
      }
    }
  }
  lines->scale[g] = best_scale;
  lines->min[g] = best_min;
  return least;
}

// d and dmin of the least loss for the codes that `lines` give.
template <int kMost>
void FitUnits(const float* w, const float* h, Lines* lines) {
  // w ≈ d · a − dmin · b, with a = scale · code and b = min.
  double aa = 0, ab = 0, bb = 0, wa = 0, wb = 0;
  for (int g = 0; g < 8; ++g) {
    const LineSums s = FitLine<kMost>(w + g * kGroup, h + g * kGroup, lines->of(g));
    const double a = lines->scale[g], b = lines->min[g];
    aa += a * a * s.cc;
    ab += a * b * s.c;
    bb += b * b * s.one;
    wa += a * s.wc;
    wb += b * s.w;
  }
  const double determinant = aa * bb - ab * ab;
  double d = aa > 0 ? wa / aa : 0, dmin = 0;
  if (determinant > 1e-9 * aa * bb) {
    d = (bb * wa - ab * wb) / determinant;
    dmin = (ab * wa - aa * wb) / determinant;
  }
  if (!(d > 0) || dmin < 0) return;
  lines->d = Stored(static_cast<float>(d));
  lines->dmin = Stored(static_cast<float>(dmin));
}

template <int kMost>
Lines BestLines(const float* w, const float* h) {
  Line exact[8];
  float scale = 0, min = 0;
  for (int g = 0; g < 8; ++g) {
    exact[g] = BestLine<kMost>(w + g * kGroup, h + g * kGroup, /*negative_min=*/false);
    scale = std::max(scale, exact[g].scale);
    min = std::max(min, exact[g].min);
  }
  Lines lines;
  lines.d = Stored(scale / kLargestScale);
  lines.dmin = Stored(min / kLargestScale);
  for (int g = 0; g < 8; ++g) {
    lines.scale[g] = NearestScale(exact[g].scale, lines.d);
    lines.min[g] = NearestScale(exact[g].min, lines.dmin);
  }
  Lines best = lines;
  double least = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < kPasses; ++pass) {
    if (pass > 0) FitUnits<kMost>(w, h, &lines);
    double loss = 0;
    for (int g = 0; g < 8; ++g) loss += Improve<kMost>(w + g * kGroup, h + g * kGroup, g, &lines);
    if (loss < least) {
      least = loss;
      best = lines;
    }
  }
  return best;
}

// Eight scales and eight minima of six bits in twelve bytes.
void PutScales(const Lines& lines, uint8_t* out) {
  for (int g = 0; g < 4; ++g) {
    const int scale = lines.scale[g + 4], min = lines.min[g + 4];
    out[g] = static_cast<uint8_t>(lines.scale[g] | scale >> 4 << 6);
    out[g + 4] = static_cast<uint8_t>(lines.min[g] | min >> 4 << 6);
    out[g + 8] = static_cast<uint8_t>((scale & 15) | (min & 15) << 4);
  }
}

template <int kMost>
void FiveOrFour(const float* w, const float* h, uint8_t* out) {
  const Lines lines = BestLines<kMost>(w, h);
  PutHalf(lines.d, out);
  PutHalf(lines.dmin, out + 2);
  PutScales(lines, out + 4);
  constexpr int kFifthBytes = kMost > 15 ? 32 : 0;
  uint8_t* const fifth = out + 16;
  uint8_t* const nibbles = fifth + kFifthBytes;
  std::memset(fifth, 0, kFifthBytes + kBlock / 2);
  for (int g = 0; g < 8; ++g) {
    const Line line = lines.of(g);
    const float inverse = Inverse(line.scale);
    for (int j = 0; j < kGroup; ++j) {
      const auto code = static_cast<int>(CodeOf<kMost>(w[g * kGroup + j], line, inverse));
      nibbles[g / 2 * 32 + j] |= static_cast<uint8_t>((code & 15) << g % 2 * 4);
      if (kFifthBytes > 0) fifth[j] |= static_cast<uint8_t>(code >> 4 << g);
    }
  }
}

// Sixteen groups' scales: d · scale[g].
struct Scales {
  float d = 0;
  int scale[16] = {};

  float of(int g) const { return d * static_cast<float>(scale[g]); }
};

constexpr int kSmallGroup = 16;

double Improve(const float* w, const float* h, int g, Scales* scales) {
  const int middle = scales->scale[g];
  double least = std::numeric_limits<double>::infinity();
  int best = middle;
  for (int s = std::max(middle - 1, -128); s <= std::min(middle + 1, 127); ++s) {
    scales->scale[g] = s;
    const double loss = Loss<32, kSmallGroup>(w, h, scales->of(g));
    if (loss < least) {
      least = loss;
      best = s;
    }
  }
  scales->scale[g] = best;
  return least;
}

Scales BestScales(const float* w, const float* h) {
  constexpr int kGroups = kBlock / kSmallGroup;
  float exact[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    exact[g] = BestScale<32, kSmallGroup>(w + g * kSmallGroup, h + g * kSmallGroup, [](float s) { return s; });
  }
  Scales scales;
  scales.d = Stored(std::fabs(Largest(exact, kGroups)) / 127);
  for (int g = 0; g < kGroups; ++g) {
    scales.scale[g] = static_cast<int>(Round(std::max(-128.0f, std::min(127.0f, exact[g] * Inverse(scales.d)))));
  }
  Scales best = scales;
  double least = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < kPasses; ++pass) {
    double wc = 0, cc = 0;
    for (int g = 0; g < kGroups && pass > 0; ++g) {
      const ScaleSums sums = FitScale<32, kSmallGroup>(w + g * kSmallGroup, h + g * kSmallGroup, scales.of(g));
      wc += scales.scale[g] * sums.wc;
      cc += double{1} * scales.scale[g] * scales.scale[g] * sums.cc;
    }
    if (wc > 0) scales.d = Stored(static_cast<float>(wc / cc));
    double loss = 0;
    for (int g = 0; g < kGroups; ++g) loss += Improve(w + g * kSmallGroup, h + g * kSmallGroup, g, &scales);
    if (loss < least) {
      least = loss;
      best = scales;
    }
  }
  return best;
}

}  // namespace

void Q4_K(const float* w, const float* h, uint8_t* out) { FiveOrFour<15>(w, h, out); }
void Q5_K(const float* w, const float* h, uint8_t* out) { FiveOrFour<31>(w, h, out); }

void Q6_K(const float* w, const float* h, uint8_t* out) {
  const Scales scales = BestScales(w, h);
  std::memset(out, 0, 192);
  for (int i = 0; i < kBlock; ++i) {
    const int g = i / kSmallGroup, half = i / 128, quarter = i / 32 % 4, j = i % 32;
    const int code = static_cast<int>(CodeOf<32>(w[i], Inverse(scales.of(g)))) + 32;
    out[half * 64 + quarter % 2 * 32 + j] |= static_cast<uint8_t>((code & 15) << quarter / 2 * 4);
    out[128 + half * 32 + j] |= static_cast<uint8_t>(code >> 4 << quarter * 2);
  }
  for (int g = 0; g < kBlock / kSmallGroup; ++g) out[192 + g] = static_cast<uint8_t>(scales.scale[g]);
  PutHalf(scales.d, out + 208);
}

}  // namespace tiercel::quantize
