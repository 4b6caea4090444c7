#include "bench/offline.h"

#include <fmt/format.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace tiercel::bench {
namespace {

// How often `stop` is looked at.
// Which requests have something to read. Engine threads add, one thread takes.
class News {
 public:
  void Add(size_t request) {
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
    changed_.notify_one();
  }

  // Waits for some; none if the time is over.
  std::vector<size_t> Take(double seconds) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, Seconds(seconds), [&] { return !requests_.empty(); });
    return std::exchange(requests_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<size_t> requests_;
};

class OfflineRun {
 public:
  OfflineRun(const OfflineWork& work, engine::Engine* engine, const Clock& clock)
      : work_(work), engine_(engine), clock_(clock), running_(work.num_requests) {
    result_.load.outcomes.resize(work.num_requests);
  }

  Expected<OfflineResult> Run() {
    const double begin = result_.load.start_s = clock_.Now();
    RETURN_IF_ERROR(SubmitWhatMayRun());
    while (ended_ < work_.num_requests) {
      if (work_.stop != nullptr && work_.stop->load()) {
        return Unexpected(Status(StatusCode::kCancelled, "stopped"));
      }
      for (const size_t i : news_.Take(kStopInterval)) RETURN_IF_ERROR(Read(i));
      RETURN_IF_ERROR(SubmitWhatMayRun());
    }
    result_.elapsed_s = result_.load.duration_s = clock_.Now() - begin;
    return std::move(result_);
  }

 private:
  struct Running {
    std::unique_ptr<engine::Stream> stream;
    std::vector<std::vector<int32_t>> answers;
    std::optional<double> last_s;  // when it gave a token
  };

  Status SubmitWhatMayRun() {
    const size_t most = work_.max_concurrency > 0 ? static_cast<size_t>(work_.max_concurrency)
                                                  : work_.num_requests;
    while (submitted_ < work_.num_requests && submitted_ - ended_ < most) {
      RETURN_IF_ERROR(Submit(submitted_++));
    }
    return OkStatus();
  }

  Status Submit(size_t i) {
    engine::Request request;
    request.id = fmt::format("bench-{}", i);
    ASSIGN_OR_RETURN(request.prompt, work_.prompt(i));
    const int64_t wanted = work_.output_tokens(i), room = engine_->options().max_model_len;
    if (std::ssize(request.prompt) + wanted > room) {
      return InvalidArgument(
          "a prompt of {} tokens and an answer of {} do not fit into "
          "--max-model-len {}",
          request.prompt.size(), wanted, room);
    }
    if (params_ == nullptr || params_->max_tokens != wanted) params_ = Params(wanted);
    request.params = params_;
    result_.prompt_tokens += std::ssize(request.prompt);
    Outcome& outcome = result_.load.outcomes[i];
    outcome.prompt_tokens = std::ssize(request.prompt);
    outcome.start_s = clock_.Now();
    if (work_.max_concurrency > 0) outcome.queue_s = outcome.start_s - result_.load.start_s;
    result_.load.sent_s.push_back(outcome.start_s - result_.load.start_s);
    running_[i].answers.resize(static_cast<size_t>(work_.n));
    ASSIGN_OR_RETURN(running_[i].stream,
                     engine_->Submit(std::move(request), [this, i] { news_.Add(i); }));
    return OkStatus();
  }

  std::shared_ptr<const sampling::SamplingParams> Params(int64_t max_tokens) const {
    auto params = std::make_shared<sampling::SamplingParams>();
    params->n = work_.n;
    params->ignore_eos = true;
    params->max_tokens = max_tokens;
    return params;
  }

  Status Read(size_t i) {
    Running& running = running_[i];
    if (running.stream == nullptr || !running.stream->Poll(&events_)) return OkStatus();
    const double now = clock_.Now();
    bool tokens = false;
    for (const engine::StreamEvent& event : events_) {
      if (event.finish == engine::FinishReason::kError) return event.error;
      auto& answer = running.answers[static_cast<size_t>(event.index)];
      for (const engine::OutputToken& token : event.tokens) answer.push_back(token.token);
      tokens |= !event.tokens.empty();
    }
    Outcome& outcome = result_.load.outcomes[i];
    if (tokens) {
      if (running.last_s) {
        outcome.itls_s.push_back(now - *running.last_s);
      } else {
        outcome.ttft_s = now - outcome.start_s;
      }
      running.last_s = now;
      outcome.latency_s = now - outcome.start_s;
    }
    if (running.stream->finished()) End(i);
    return OkStatus();
  }

  void End(size_t i) {
    Outcome& outcome = result_.load.outcomes[i];
    outcome.success = true;
    outcome.output_tokens = 0;
    for (const auto& answer : running_[i].answers) {
      *outcome.output_tokens += std::ssize(answer);
      if (work_.detokenize != nullptr) {
        text_bytes_ += work_.detokenize->Decode(answer, /*skip_special=*/true).size();
      }
    }
    result_.output_tokens += *outcome.output_tokens;
    running_[i] = {};
    ++ended_;
    if (work_.on_end) work_.on_end(static_cast<int64_t>(ended_));
  }

  const OfflineWork& work_;
  engine::Engine* const engine_;
  const Clock& clock_;
  News news_;  // outlives the streams, which call it
  std::vector<Running> running_;
  std::shared_ptr<const sampling::SamplingParams> params_;  // of the request before
  std::vector<engine::StreamEvent> events_;
  OfflineResult result_;
  size_t submitted_ = 0, ended_ = 0;
  size_t text_bytes_ = 0;  // so that the text is made
};

}  // namespace

Expected<OfflineResult> RunOffline(const OfflineWork& work, engine::Engine* engine,
                                   const Clock& clock) {
  return OfflineRun(work, engine, clock).Run();
}

}  // namespace tiercel::bench
