#include "engine/beam_search.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "sampling/beams.h"

namespace tiercel::engine {
namespace {

using sampling::Beams;
using sampling::SamplingParams;

// One token of one beam, with what may come in its place.
std::shared_ptr<const SamplingParams> StepParams(const SamplingParams& search) {
  auto params = std::make_shared<SamplingParams>();
  params->temperature = 0;
  params->max_tokens = 1;
  params->ignore_eos = true;
  // The candidates, and what the answer shows; −1 is all.
  const int shown = search.logprobs.value_or(0);
  params->logprobs = shown < 0 ? -1 : std::max(2 * search.n, shown);
  return params;
}

class BeamStream final : public Stream {
 public:
  BeamStream(Request request, sampling::BeamOptions options, SubmitFunction submit,
             std::function<void()> on_news)
      : request_(std::move(request)),
        step_params_(StepParams(*request_.params)),
        submit_(std::move(submit)),
        on_news_(std::move(on_news)),
        beams_(std::move(options)) {}

  Status SubmitStep() {
    next_.assign(static_cast<size_t>(beams_.num_live()), {});
    for (int i = 0; i < beams_.num_live(); ++i) {
      Request step;
      step.id = request_.id;
      const std::vector<int32_t> tokens = beams_.LiveTokens(i);
      step.prompt.reserve(request_.prompt.size() + tokens.size());
      step.prompt = request_.prompt;
      step.prompt.insert(step.prompt.end(), tokens.begin(), tokens.end());
      step.params = step_params_;
      step.priority = request_.priority;
      step.cache_salt = request_.cache_salt;
      ASSIGN_OR_RETURN(auto stream, submit_(std::move(step), on_news_));
      steps_.push_back(std::move(stream));
    }
    return OkStatus();
  }

  bool Poll(std::vector<StreamEvent>* events) override {
    events->clear();
    if (finished_) return false;
    Advance();
    if (answers_.empty()) return false;
    *events = std::exchange(answers_, {});
    finished_ = true;
    return true;
  }

  bool Wait(double seconds) override {
    const SteadyClock clock;
    const double end = clock.Now() + seconds;
    for (;;) {
      Advance();
      if (!answers_.empty() || finished_) return !answers_.empty();
      const double left = end - clock.Now();
      if (left <= 0) return false;
      for (const auto& step : steps_) {
        if (!step->finished()) {
          step->Wait(left);
          break;
        }
      }
    }
  }

  // A stop string is found in a whole answer: there is nothing to stop any more.
  void Stop(int /*index*/) override {}
  bool finished() const override { return finished_; }
  std::optional<PromptInfo> TakePromptInfo() override { return std::exchange(prompt_info_, std::nullopt); }

 private:
  // Goes on as far as it can without waiting.
  void Advance() {
    if (finished_ || !answers_.empty()) return;
    std::vector<StreamEvent> events;
    bool all = true;
    for (size_t i = 0; i < steps_.size(); ++i) {
      while (steps_[i]->Poll(&events)) {
        for (StreamEvent& event : events) {
          if (event.finish == FinishReason::kError || event.finish == FinishReason::kAbort) {
            return EndAll(event.finish, event.error);
          }
          if (event.tokens.empty()) continue;
          next_[i] = std::move(event.tokens[0].top);
          next_[i].erase(next_[i].begin());  // the token itself, the likeliest, comes again
        }
      }
      all &= steps_[i]->finished();
    }
    if (!all) return;
    if (!std::exchange(prompt_known_, true)) prompt_info_ = steps_[0]->TakePromptInfo();
    steps_.clear();
    beams_.Grow(next_);
    if (beams_.done()) return TakeAnswers();
    if (const Status status = SubmitStep(); !status.ok()) EndAll(FinishReason::kError, status);
  }

  void TakeAnswers() {
    for (Beams::Answer& answer : beams_.Take()) {
      StreamEvent event;
      event.index = static_cast<int>(answers_.size());
      for (size_t i = 0; i < answer.tokens.size(); ++i) {
        OutputToken token{answer.tokens[i], {}};
        if (!answer.top.empty()) token.top = std::move(answer.top[i]);
        event.tokens.push_back(std::move(token));
      }
      event.finish = answer.ended ? FinishReason::kStop : FinishReason::kLength;
      answers_.push_back(std::move(event));
    }
    // A small vocabulary may have fewer answers than were asked for.
    while (std::ssize(answers_) < request_.params->n) {
      AddEnd(FinishReason::kLength, OkStatus());
    }
  }

  void EndAll(FinishReason reason, const Status& error) {
    steps_.clear();
    while (std::ssize(answers_) < request_.params->n) AddEnd(reason, error);
  }

  void AddEnd(FinishReason reason, const Status& error) {
    StreamEvent event;
    event.index = static_cast<int>(answers_.size());
    event.finish = reason;
    event.error = error;
    answers_.push_back(std::move(event));
  }

  const Request request_;  // the search's own
  const std::shared_ptr<const SamplingParams> step_params_;
  const SubmitFunction submit_;
  const std::function<void()> on_news_;
  Beams beams_;
  std::vector<std::unique_ptr<Stream>> steps_;  // by live beam
  std::vector<std::vector<TokenLogprob>> next_;  // by live beam: what may come next
  std::optional<PromptInfo> prompt_info_;
  bool prompt_known_ = false;
  std::vector<StreamEvent> answers_;  // when it has ended, until they are taken
  bool finished_ = false;
};

}  // namespace

Expected<std::unique_ptr<Stream>> StartBeamSearch(Request request, int64_t max_tokens,
                                                  std::vector<int32_t> eos_token_ids,
                                                  SubmitFunction submit, std::function<void()> on_news) {
  const SamplingParams& params = *request.params;
  sampling::BeamOptions options;
  options.width = params.n;
  options.prompt_tokens = std::ssize(request.prompt);
  options.max_tokens = max_tokens;
  options.length_penalty = static_cast<double>(params.length_penalty);
  if (!params.ignore_eos) options.end_tokens = std::move(eos_token_ids);
  options.logprobs = params.logprobs;
  auto stream = std::make_unique<BeamStream>(std::move(request), std::move(options), std::move(submit),
                                             std::move(on_news));
  RETURN_IF_ERROR(stream->SubmitStep());
  return stream;
}

}  // namespace tiercel::engine
