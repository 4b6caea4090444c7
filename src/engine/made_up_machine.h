// Machines whose steps take known times, for tests of what is learnt from steps.
#pragma once

#include <algorithm>
#include <functional>

#include "engine/step_cost.h"

namespace tiercel::engine {

using Machine = std::function<double(const StepWork&)>;  // seconds

// Streams that decode at so many tokens of context each, and so many tokens of a prompt.
inline StepWork MakeWork(int64_t streams, int64_t context, int64_t tokens = 0, int64_t start = 0) {
  StepWork work;
  for (int64_t i = 0; i < streams; ++i) work.Add(context, 1);
  if (tokens > 0) work.Add(start, tokens);
  return work;
}

// In milliseconds a step, microseconds a row, a key and a product.
inline Machine LinearMachine(double fixed_ms, double row_us, double key_us = 0,
                             double product_us = 0) {
  return [=](const StepWork& work) {
    return 1e-3 * fixed_ms + 1e-6 * (row_us * static_cast<double>(work.rows) +
                                     key_us * static_cast<double>(work.keys) +
                                     product_us * static_cast<double>(work.products));
  };
}

// Reads its weights while it computes: a step takes the longer of both.
inline Machine OverlappingMachine(double read_ms, double row_us) {
  return [=](const StepWork& work) {
    return std::max(1e-3 * read_ms, 1e-6 * row_us * static_cast<double>(work.rows));
  };
}

// Prompts and streams of many sizes, each some times.
inline void Train(const Machine& machine, StepCost* cost) {
  const auto run = [&](const StepWork& work) { cost->Record(work, machine(work)); };
  for (int round = 0; round < 5; ++round) {
    for (int64_t rows = 1; rows <= 2048; rows += std::max<int64_t>(1, rows / 8)) {
      run(MakeWork(0, 0, rows, 100 * (rows % 7)));
    }
    for (int64_t streams = 1; streams <= 64; streams *= 2) {
      run(MakeWork(streams, 100 + 40 * round));
      run(MakeWork(streams, 100 + 40 * round, 64, 500 * round));
    }
  }
}

}  // namespace tiercel::engine
