// How logits come to the first process of a job: each process of the last stage has columns of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "comm/transport.h"
#include "model/activations.h"

namespace tiercel::model {

// `stride` bytes apart. At the first process `data` is where all columns begin; at another one, where its own do.
struct LogitRows {
  std::byte* data = nullptr;
  int64_t rows = 0;
  int64_t stride = 0;
  int64_t width = 0;     // bytes of all columns
  bool columns = true;   // else hidden states: the stage's first process has all of them
};

// Of a process of the last stage: what it sends.
comm::Transfer LogitsToFirst(const RankBuffers& ranks, const LogitRows& rows);
// Of the first process: what it receives.
void LogitsFromOthers(const RankBuffers& ranks, const LogitRows& rows, std::vector<comm::Transfer>* receives);

}  // namespace tiercel::model
