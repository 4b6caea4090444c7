// TransferQueue: what is left to move to or from one peer, as pieces of memory one after the other.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "comm/transport.h"

namespace tiercel::comm {

class TransferQueue {
 public:
  void Clear() {
    transfers_.clear();
    at_ = 0;
    row_ = done_ = 0;
  }
  void Add(Transfer transfer) {
    if (transfer.stride == transfer.width) {  // one piece
      transfer.width *= transfer.rows;
      transfer.rows = 1;
    }
    transfers_.push_back(transfer);
  }
  bool empty() const { return at_ == transfers_.size(); }

  // The next pieces, as many as there is room for; returns how many.
  size_t Pieces(std::span<iovec> out) const {
    size_t count = 0;
    int64_t row = row_, done = done_;
    for (size_t i = at_; i < transfers_.size(); ++i, row = 0) {
      const Transfer& transfer = transfers_[i];
      for (; row < transfer.rows; ++row, done = 0) {
        if (count == out.size()) return count;
        out[count++] = {transfer.data + row * transfer.stride + done, static_cast<size_t>(transfer.width - done)};
      }
    }
    return count;
  }

  // So many bytes of them have moved.
  void Moved(int64_t bytes) {
    while (bytes > 0) {
      const Transfer& transfer = transfers_[at_];
      const int64_t step = std::min(bytes, transfer.width - done_);
      bytes -= step;
      done_ += step;
      if (done_ < transfer.width) return;
      done_ = 0;
      if (++row_ < transfer.rows) continue;
      row_ = 0;
      ++at_;
    }
  }

 private:
  std::vector<Transfer> transfers_;
  size_t at_ = 0;                // the transfer that moves
  int64_t row_ = 0, done_ = 0;  // its row, and bytes of that
};

}  // namespace tiercel::comm
