// What the links between a job's processes do: latency and bandwidth of each pair, and of a sum over all.
#pragma once

#include <vector>

#include "base/status.h"
#include "comm/transport.h"

namespace tiercel::comm {

struct PairFigures {
  int from = 0, to = 0;
  double latency_us = 0;      // one way: half of a round trip, median
  double gb_per_s = 0;        // one way, median
};

struct SumFigures {
  int64_t bytes = 0;     // of each process's FP32 part
  double seconds = 0;    // median
  bool is_right = false;  // the sum was what it has to be
};

struct LinkFigures {
  std::vector<PairFigures> pairs;
  std::vector<SumFigures> sums;
};

// Every process calls it; the first one gets the pairs, all the sums.
Expected<LinkFigures> CheckLinks(Transport* transport);

}  // namespace tiercel::comm
