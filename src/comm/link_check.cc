#include "comm/link_check.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/clock.h"
#include "comm/agreement.h"
#include "comm/rank_places.h"

namespace tiercel::comm {
namespace {

constexpr int64_t kPairBytes = int64_t{16} << 20;
// A row of a decode, and the rows of a prefill (2048 of 5120 values).
constexpr int64_t kSums[] = {8 << 10, int64_t{40} << 20};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The median of so many runs, in seconds, after one that does not count.
Expected<double> TimeOf(int runs, const std::function<Status()>& run) {
  std::vector<double> seconds;
  for (int i = 0; i <= runs; ++i) {
    const double start = SteadyClock().Now();
    RETURN_IF_ERROR(run());
    if (i > 0) seconds.push_back(SteadyClock().Now() - start);
  }
  return Median(std::move(seconds));
}

class Checker {
 public:
  explicit Checker(Transport* transport) : transport_(*transport), own_(transport->process()), buffer_(kPairBytes) {}

  Expected<LinkFigures> Run() {
    LinkFigures figures;
    for (int from = 0; from < own_.count; ++from) {
      for (int to = from + 1; to < own_.count; ++to) {
        ASSIGN_OR_RETURN(const PairFigures pair, CheckPair(from, to));
        if (own_.is_first()) figures.pairs.push_back(pair);
      }
    }
    for (const int64_t bytes : kSums) {
      ASSIGN_OR_RETURN(const SumFigures sum, CheckSum(bytes));
      figures.sums.push_back(sum);
    }
    RETURN_IF_ERROR(Meet());  // nobody leaves whom others still hear
    return figures;
  }

 private:
  Status Send(int peer, int64_t bytes) {
    const Transfer transfer = TransferOf(peer, buffer_.data(), bytes);
    return transport_.Exchange({&transfer, 1}, {});
  }
  Status Receive(int peer, int64_t bytes) {
    const Transfer transfer = TransferOf(peer, buffer_.data(), bytes);
    return transport_.Exchange({}, {&transfer, 1});
  }

  // There and back, with so many bytes on the way there.
  Expected<double> RoundTrip(int from, int to, int64_t bytes, int runs) {
    return TimeOf(runs, [&]() -> Status {
      if (own_.index == from) {
        RETURN_IF_ERROR(Send(to, bytes));
        return Receive(to, 1);
      }
      RETURN_IF_ERROR(Receive(from, bytes));
      return Send(from, 1);
    });
  }

  Expected<PairFigures> CheckPair(int from, int to) {
    PairFigures pair{.from = from, .to = to};
    if (own_.index == from || own_.index == to) {
      ASSIGN_OR_RETURN(const double small, RoundTrip(from, to, 8, 500));
      ASSIGN_OR_RETURN(const double large, RoundTrip(from, to, kPairBytes, 5));
      pair.latency_us = small / 2 * 1e6;
      pair.gb_per_s = static_cast<double>(kPairBytes) / (large - small / 2) * 1e-9;
    }
    // `from` tells the first process, and by that all the others that it is the next pair's turn.
    if (from != 0) {
      const Transfer transfer = TransferOf(own_.is_first() ? from : 0, &pair, 1);
      if (own_.index == from) RETURN_IF_ERROR(transport_.Exchange({&transfer, 1}, {}));
      if (own_.is_first()) RETURN_IF_ERROR(transport_.Exchange({}, {&transfer, 1}));
    }
    RETURN_IF_ERROR(Meet());
    return pair;
  }

  // As the ranks of a model add up (model/program.cc): of few values each process gets all parts; of many each gets
  // those of its rows, adds, and gives the sums to all. In the order of the processes.
  Expected<SumFigures> CheckSum(int64_t bytes) {
    const int64_t n = bytes / static_cast<int64_t>(sizeof(float));
    const auto count = static_cast<size_t>(own_.count);
    std::vector<std::vector<float>> parts(count, std::vector<float>(static_cast<size_t>(n)));
    std::vector<float> sum(static_cast<size_t>(n));
    float* const mine = parts[static_cast<size_t>(own_.index)].data();
    for (int64_t i = 0; i < n; ++i) mine[i] = static_cast<float>(own_.index + i % 7);
    const bool few = AddsAlone(n);
    const auto rows_of = [&](int process) { return few ? Range{0, n} : OwnedBy({process, own_.count}, n); };
    SumFigures figures{.bytes = bytes};
    RETURN_IF_ERROR(Meet());
    ASSIGN_OR_RETURN(figures.seconds, TimeOf(few ? 200 : 5, [&]() -> Status {
      const Range own = rows_of(own_.index);
      RETURN_IF_ERROR(ExchangeWithAll(
          &transport_, [&](int peer) { return TransferOf(peer, mine + rows_of(peer).begin, rows_of(peer).size()); },
          [&](int peer) { return TransferOf(peer, parts[static_cast<size_t>(peer)].data() + own.begin, own.size()); }));
      for (int64_t i = own.begin; i < own.end; ++i) {
        float total = 0;
        for (const auto& part : parts) total += part[static_cast<size_t>(i)];
        sum[static_cast<size_t>(i)] = total;
      }
      if (few) return OkStatus();
      return ExchangeWithAll(
          &transport_, [&](int peer) { return TransferOf(peer, sum.data() + own.begin, own.size()); },
          [&](int peer) { return TransferOf(peer, sum.data() + rows_of(peer).begin, rows_of(peer).size()); });
    }));
    figures.is_right = true;
    const auto all = static_cast<int64_t>(own_.count);
    for (int64_t i = 0; i < n; ++i) {
      figures.is_right &= sum[static_cast<size_t>(i)] == static_cast<float>(all * (all - 1) / 2 + all * (i % 7));
    }
    return figures;
  }

  // All processes are here.
  Status Meet() { return Agree(OkStatus(), &transport_); }

  Transport& transport_;
  const Process own_;
  std::vector<std::byte> buffer_;
};

}  // namespace

Expected<LinkFigures> CheckLinks(Transport* transport) { return Checker(transport).Run(); }

}  // namespace tiercel::comm
