#include "bench/offline.h"

#include <fmt/format.h>

#include <memory>

namespace tiercel::bench {
namespace {

// How often `stop` is looked at.
constexpr double kStopInterval = 0.1;

class OfflineRun {
 public:
  OfflineRun(const OfflineWork& work, engine::Engine* engine) : work_(work), engine_(engine) {}

  Status Submit() {
    std::shared_ptr<const sampling::SamplingParams> params;  // of the request before
    for (size_t i = 0; i < work_.num_requests; ++i) {
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
      if (params == nullptr || params->max_tokens != wanted) params = Params(wanted);
      request.params = params;
      result_.prompt_tokens += std::ssize(request.prompt);
      ASSIGN_OR_RETURN(auto stream, engine_->Submit(std::move(request), nullptr));
      streams_.push_back(std::move(stream));
    }
    return OkStatus();
  }

  // One after the other: what ends meanwhile waits in its stream.
  Expected<OfflineResult> Collect() {
    for (size_t i = 0; i < streams_.size(); ++i) {
      RETURN_IF_ERROR(CollectOne(std::move(streams_[i])));
      if (work_.on_end) work_.on_end(static_cast<int64_t>(i) + 1);
    }
    return result_;
  }

 private:
  std::shared_ptr<const sampling::SamplingParams> Params(int64_t max_tokens) const {
    auto params = std::make_shared<sampling::SamplingParams>();
    params->n = work_.n;
    params->ignore_eos = true;
    params->max_tokens = max_tokens;
    return params;
  }

  Status CollectOne(std::unique_ptr<engine::Stream> stream) {
    std::vector<std::vector<int32_t>> answers(static_cast<size_t>(work_.n));
    std::vector<engine::StreamEvent> events;
    while (!stream->finished()) {
      if (work_.stop != nullptr && work_.stop->load()) {
        return Status(StatusCode::kCancelled, "stopped");
      }
      if (!stream->Wait(kStopInterval) || !stream->Poll(&events)) continue;
      for (const engine::StreamEvent& event : events) {
        if (event.finish == engine::FinishReason::kError) return event.error;
        auto& answer = answers[static_cast<size_t>(event.index)];
        for (const engine::OutputToken& token : event.tokens) answer.push_back(token.token);
      }
    }
    for (const auto& answer : answers) {
      result_.output_tokens += std::ssize(answer);
      if (work_.detokenize != nullptr) {
        text_bytes_ += work_.detokenize->Decode(answer, /*skip_special=*/true).size();
      }
    }
    return OkStatus();
  }

  const OfflineWork& work_;
  engine::Engine* const engine_;
  std::vector<std::unique_ptr<engine::Stream>> streams_;
  OfflineResult result_;
  size_t text_bytes_ = 0;  // so that the text is made
};

}  // namespace

Expected<OfflineResult> RunOffline(const OfflineWork& work, engine::Engine* engine,
                                   const Clock& clock) {
  OfflineRun run(work, engine);
  const double begin = clock.Now();
  RETURN_IF_ERROR(run.Submit());
  ASSIGN_OR_RETURN(OfflineResult result, run.Collect());
  result.elapsed_s = clock.Now() - begin;
  return result;
}

}  // namespace tiercel::bench
