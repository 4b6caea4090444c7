#include "bench/load.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "bench/answer_reader.h"

namespace tiercel::bench {
namespace {

// How often `stop` is looked at while nothing comes.
class LoadRun {
 public:
  LoadRun(const Load& load, net::AsyncHttpClient* client, const Clock& clock)
      : load_(load), client_(client), clock_(clock), outcomes_(load.arrivals_s.size()) {}

  Expected<LoadResult> Run() {
    const size_t count = load_.arrivals_s.size();
    start_s_ = clock_.Now();
    while (ended_ < count && !(load_.stop != nullptr && load_.stop->load())) {
      SendDue();
      RETURN_IF_ERROR(client_->Poll(NextWait()));
    }
    LoadResult result;
    result.start_s = start_s_;
    result.duration_s = clock_.Now() - start_s_;
    result.sent_s = std::move(sent_s_);
    result.unfinished = static_cast<int64_t>(count - ended_);
    for (std::optional<Outcome>& outcome : outcomes_) {
      if (outcome) result.outcomes.push_back(std::move(*outcome));
    }
    return result;
  }

 private:
  double Elapsed() const { return clock_.Now() - start_s_; }

  bool MaySend() const {
    return load_.max_concurrency == 0 || static_cast<int64_t>(running_) < load_.max_concurrency;
  }

  void SendDue() {
    const double now = Elapsed();
    while (next_ < load_.arrivals_s.size() && load_.arrivals_s[next_] <= now) {
      waiting_.push_back(next_++);
    }
    for (; !waiting_.empty() && MaySend(); waiting_.pop_front()) Send(waiting_.front());
  }

  void Send(size_t index) {
    net::HttpRequestSpec spec = load_.make(index);
    auto reader =
        std::make_shared<AnswerReader>(&clock_, load_.prompt_tokens(index));  // both callbacks'
    ++running_;
    sent_s_.push_back(Elapsed());
    client_->Start(
        std::move(spec), [reader](std::string_view piece) { return reader->Feed(piece); },
        [this, reader, index](Expected<net::HttpResponse> response) {
          End(index, std::move(*reader).End(response));
        });
  }

  void End(size_t index, Outcome outcome) {
    outcome.queue_s = std::max(0.0, outcome.start_s - start_s_ - load_.arrivals_s[index]);
    outcomes_[index] = std::move(outcome);
    --running_;
    ++ended_;
    if (load_.on_end) load_.on_end(static_cast<int64_t>(ended_));
  }

  double NextWait() const {
    if (!waiting_.empty() && MaySend()) return 0;
    if (next_ >= load_.arrivals_s.size()) return kStopInterval;
    return std::clamp(load_.arrivals_s[next_] - Elapsed(), 0.0, kStopInterval);
  }

  const Load& load_;
  net::AsyncHttpClient* const client_;
  const Clock& clock_;
  double start_s_ = 0;
  size_t next_ = 0;             // request that is to arrive
  std::deque<size_t> waiting_;  // have arrived, and wait for their turn
  size_t running_ = 0;
  std::vector<double> sent_s_;
  size_t ended_ = 0;
  std::vector<std::optional<Outcome>> outcomes_;
};

}  // namespace

Expected<LoadResult> RunLoad(const Load& load, net::AsyncHttpClient* client, const Clock& clock) {
  return LoadRun(load, client, clock).Run();
}

}  // namespace tiercel::bench
