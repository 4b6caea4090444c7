// Transport: what the processes of one job send each other. A job is the processes, on one machine or several,
// that run one model together; the first one, number 0, serves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"

namespace tiercel::comm {

inline constexpr int kMaxProcesses = 64;

// Which process of a job this is.
struct Process {
  int index = 0;
  int count = 1;

  bool is_first() const { return index == 0; }
};

// `rows` times `width` bytes, `stride` bytes apart, to or from process `peer`.
struct Transfer {
  int peer = 0;
  std::byte* data = nullptr;  // what is sent is only read
  int64_t rows = 0;
  int64_t stride = 0;
  int64_t width = 0;

  int64_t bytes() const { return rows * width; }
};

class Transport {
 public:
  // How long to wait for others: as long as they may take for their part of a step, or, for who has nothing to
  // do until the next one comes, for ever. Who has gone is found either way. Within a step it may be one of whom nothing is
  // wanted now, since others wait for it, and would be blamed. Not so where all tell all (kTogether): who has heard
  // everyone may end before others have.
  enum class Patience : uint8_t { kStep, kTogether, kForever };

  virtual ~Transport() = default;

  virtual Process process() const = 0;
  // "process 2 (node-b)", for messages.
  virtual std::string NameOf(int process) const = 0;
  // Sends and receives all of it at once; returns when all has been received, and what was sent may be written
  // to. Between two processes, what the one receives is what the other sends, in the same order, in transfers of the same
  // sizes. One thread at a time. An error is final: it names who has gone or is late, and every later call
  // returns it again.
  virtual Status Exchange(std::span<const Transfer> sends, std::span<const Transfer> receives,
                          Patience patience = Patience::kStep) = 0;
  // Receives that go on beside all that is exchanged from now on: who sends them need not wait until they are wanted. From each
  // process they come before what is received from it afterwards.
  virtual Status Post(std::span<const Transfer> receives) = 0;
  // Returns when the oldest that were posted, and not yet awaited, have come.
  virtual Status Await() = 0;
  // Whether an error has been returned. By the thread that calls Exchange, or one that it has met since.
  virtual bool failed() const = 0;
  // While nothing is exchanged: whether somebody has gone, as far as can be told. From any thread.
  virtual Status Check() const = 0;
};

// One transfer of plain memory.
template <typename T>
Transfer TransferOf(int peer, const T* data, int64_t count) {
  const auto bytes = count * static_cast<int64_t>(sizeof(T));
  return {peer, reinterpret_cast<std::byte*>(const_cast<T*>(data)), bytes > 0 ? 1 : 0, bytes, bytes};
}

}  // namespace tiercel::comm
