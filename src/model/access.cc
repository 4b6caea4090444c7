#include "model/access.h"

namespace tiercel::model {

bool ShareColumns(const Region& a, const Region& b) {
  // b's rows begin `shift` bytes behind the beginning of one of a's.
  const auto distance = static_cast<int64_t>(b.begin() - a.begin());
  const int64_t shift = (distance % a.stride + a.stride) % a.stride;
  return shift < a.width || shift + b.width > a.stride;
}

bool DividedAlike(const Access& a, const Access& b) {
  const Region& x = a.region;
  const Region& y = b.region;
  if (a.division != b.division || x.stride != y.stride) return false;
  switch (a.division.kind) {
    case Division::Kind::kAll:
      return false;
    case Division::Kind::kOwn:
    case Division::Kind::kRows:  // whatever of a row each of them touches
      return x.base == y.base && x.rows == y.rows;
    case Division::Kind::kColumns:  // of whichever rows
      return x.width == y.width && static_cast<int64_t>(y.begin() - x.begin()) % x.stride == 0;
  }
  return false;
}

}  // namespace tiercel::model
