#include "engine/engine_loop.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/log.h"
#include "sampling/random.h"

namespace tiercel::engine {
namespace {

SchedulerOptions MakeSchedulerOptions(const EngineConfig& config) {
  const EngineOptions& o = config.options;
  SchedulerOptions s;
  s.max_length = config.max_length;
  s.max_num_batched_tokens = o.max_num_batched_tokens;
  s.max_num_seqs = o.max_num_seqs;
  s.prompt_logit_rows = kPromptLogitRows;
  s.num_blocks = config.kv.num_blocks;
  s.block_size = o.block_size;
  s.enable_prefix_caching = o.enable_prefix_caching;
  s.enable_chunked_prefill = o.enable_chunked_prefill;
  s.long_prefill_token_threshold = o.long_prefill_token_threshold;
  s.by_priority = o.scheduling_policy == SchedulingPolicy::kPriority;
  return s;
}

Status FailureStatus() {
  return Internal("EngineCore encountered an issue. See stack trace (above) for the root cause.");
}

}  // namespace

EngineLoop::EngineLoop(const EngineConfig& config, model::CausalLm* model,
                       const sampling::VectorOps& ops, const Clock* clock,
                       std::shared_ptr<Inbox> inbox)
    : config_(config), clock_(clock), inbox_(std::move(inbox)),
      scheduler_(MakeSchedulerOptions(config), PrefixHasher()),
      stats_(config.options.max_model_len, config.kv.num_blocks, config.options.log_stats_interval,
             clock->Now()),
      runner_(model, ops, config.options.logprobs_mode, config.options.max_num_seqs,
              config.options.async_scheduling, [inbox = inbox_.get()] { inbox->Wake(); }) {
  for (int i = 0; i < runner_.depth(); ++i) {
    batches_.push_back(
        std::make_unique<BatchPlan>(config.limits, config.max_length, config.kv.block_size));
    free_batches_.push_back(batches_.back().get());
  }
  plan_.entries.reserve(static_cast<size_t>(config.options.max_num_seqs));
}

void EngineLoop::Run(const std::function<void()>& on_idle) {
  std::optional<std::string> failure;
  runner_.BindThread();
  try {
    while (true) {
      if (Idle() && draining_) on_idle();
      if (!HandleMessages(SecondsUntilPlanning())) break;
      if (!Idle() && SecondsUntilPlanning() <= 0) Step();
    }
    while (runner_.num_launched() > 0) ProcessResults();
    AbortAll(FinishReason::kAbort, OkStatus());
    NotifyReaders();
  } catch (const std::exception& e) {
    failure = e.what();
  }
  // First nothing more is let in, then the streams are told.
  inbox_->Close(&messages_);
  if (failure) Fail(*failure);
  for (Message& message : messages_) {
    if (message.kind == Message::Kind::kResetPrefixCache) message.answer->set_value(false);
    if (message.kind == Message::Kind::kSubmit) Refuse(message.request.get());
  }
  NotifyReaders();
  on_idle();
}

// Infinite when idle, 0 when there is something to do now.
double EngineLoop::SecondsUntilPlanning() {
  if (Idle()) return std::numeric_limits<double>::infinity();
  if (runner_.num_launched() == 0 || runner_.num_launched() == runner_.depth()) return 0;
  // One step runs. Its end wakes the inbox, in case it comes earlier than expected.
  const double seconds = timer_.PlanTime() - clock_->Now();
  return seconds <= 0 || runner_.HasResult() ? 0 : seconds;
}

bool EngineLoop::HandleMessages(double wait_seconds) {
  inbox_->Take(wait_seconds, &messages_);
  bool go_on = true;
  for (Message& message : messages_) {
    switch (message.kind) {
      case Message::Kind::kSubmit: {
        ActiveRequest* const request = message.request.get();
        request->arrival = next_arrival_++;
        requests_.emplace(request->stream.get(), std::move(message.request));
        for (const auto& sequence : request->sequences) scheduler_.Add(sequence.get());
        break;
      }
      case Message::Kind::kCancel: {
        const auto it = requests_.find(message.stream.get());
        if (it != requests_.end()) Abort(it->second.get(), FinishReason::kAbort, OkStatus());
        break;
      }
      case Message::Kind::kStopSample:
        StopSample(message.stream.get(), message.index);
        break;
      case Message::Kind::kResetPrefixCache:
        message.answer->set_value(scheduler_.ResetPrefixCache());
        break;
      case Message::Kind::kAbortAll:
        AbortAll(FinishReason::kAbort, OkStatus());
        NotifyReaders();
        break;
      case Message::Kind::kDrain:
        draining_ = true;
        break;
      case Message::Kind::kShutDown:
        go_on = false;
        break;
    }
  }
  if (!messages_.empty()) {
    StatsRecorder::Update update(&stats_);
    UpdateGauges(&update);
  }
  messages_.clear();
  return go_on;
}

void EngineLoop::Step() {
  const bool had_launched = runner_.num_launched() > 0;
  if (runner_.num_launched() < runner_.depth()) Launch();
  const bool planned = !plan_.entries.empty();
  // With nothing running and nothing planned there would never be a step again.
  CHECK_MSG(planned || had_launched || requests_.empty(), "{} requests wait and none can run",
            requests_.size());
  if (runner_.num_launched() == runner_.depth() || (had_launched && !planned)) ProcessResults();
}

void EngineLoop::Launch() {
  scheduler_.Schedule(&plan_);
  if (plan_.entries.empty()) return;
  {
    const double now = clock_->Now();
    StatsRecorder::Update update(&stats_);
    update.Step(plan_.num_tokens, plan_.num_preempted);
    for (const PlanEntry& entry : plan_.entries) {
      Sequence* const sequence = entry.sequence;
      ActiveRequest* const request = ActiveOf(sequence);
      ++sequence->steps_in_flight;
      ++request->steps_in_flight;
      if (sequence->sampling != nullptr) continue;
      sequence->sampling = std::make_unique<sampling::SequenceState>(
          request->params, request->prompt, sampling::SampleSeed(request->seed, sequence->index),
          config_.options.eos_token_ids);
      update.FirstScheduled(sequence, now);
      Unqueue(request);
    }
    update.PrefixCache(scheduler_.prefix_queries(), scheduler_.prefix_hits());
    UpdateGauges(&update);
  }
  BatchPlan* const batch = free_batches_.back();
  free_batches_.pop_back();
  if (runner_.num_launched() == 0) timer_.Started(plan_.num_tokens, clock_->Now());
  batch->Build(plan_, [](Sequence* sequence) { return &ActiveOf(sequence)->prompt_logprobs; });
  runner_.Launch(batch);
}

void EngineLoop::ProcessResults() {
  BatchPlan* const batch = runner_.Wait();
  const double now = clock_->Now();
  timer_.Ended(now);
  if (runner_.num_launched() > 0) timer_.Started(plan_.num_tokens, now);  // planned last
  std::optional<std::string> log_line;
  {
    StatsRecorder::Update update(&stats_);
    for (size_t i = 0; i < batch->tasks().size(); ++i) {
      const LogitTask& task = batch->tasks()[i];
      if (task.sampling == nullptr) continue;
      // What ended while the step ran is discarded.
      if (task.sequence->status == SequenceStatus::kFinished) continue;
      ProcessToken(task.sequence, &batch->results()[i], &update, now);
    }
    // Within the same update: who has seen a last token sees its blocks free as well.
    UpdateGauges(&update);
    log_line = update.LogLine(now);
  }
  for (const PlanEntry& entry : batch->entries()) {
    --entry.sequence->steps_in_flight;
    ActiveRequest* const request = ActiveOf(entry.sequence);
    --request->steps_in_flight;
    RetireIfDone(request);
  }
  free_batches_.push_back(batch);
  if (log_line) LOG_INFO("{}", *log_line);
  NotifyReaders();
}

void EngineLoop::ProcessToken(Sequence* sequence, sampling::SampledToken* result,
                              StatsRecorder::Update* update, double now) {
  ActiveRequest* const request = ActiveOf(sequence);
  scheduler_.AppendToken(sequence, result->token);
  update->Token(sequence, now);
  std::optional<int32_t> stop_token;
  const FinishReason reason = CheckEnd(*sequence, &stop_token);
  if (!request->info_published) PublishPromptInfo(request);
  OutputToken output;
  output.token = result->token;
  output.top = std::move(result->top);
  if (request->stream->Push(sequence->index, std::move(output), reason, stop_token)) {
    with_news_.push_back(request->stream);
  }
  if (reason != FinishReason::kNone) Finish(sequence, reason, update, now);
}

// vLLM's order: nothing before min_tokens; the primary eos; the stop tokens; the length.
FinishReason EngineLoop::CheckEnd(const Sequence& sequence,
                                  std::optional<int32_t>* stop_token) const {
  const sampling::SamplingParams& params = *sequence.request->params;
  const int32_t token = sequence.output.back();
  const auto contains = [token](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  const int64_t length = static_cast<int64_t>(sequence.output.size());
  const std::vector<int32_t>& eos = config_.options.eos_token_ids;
  if (length >= params.min_tokens) {
    if (!params.ignore_eos && !eos.empty() && token == eos[0]) return FinishReason::kStop;
    if (contains(params.stop_token_ids) || (!params.ignore_eos && contains(eos))) {
      *stop_token = token;
      return FinishReason::kStop;
    }
  }
  if (length >= params.max_tokens || sequence.num_known() >= config_.max_length) {
    return FinishReason::kLength;
  }
  return FinishReason::kNone;
}

void EngineLoop::PublishPromptInfo(ActiveRequest* request) {
  request->info_published = true;
  PromptInfo info;
  info.cached_tokens = request->num_cached_tokens;
  info.prompt_logprobs = std::move(request->prompt_logprobs);
  request->stream->SetPromptInfo(std::move(info));
}

void EngineLoop::Finish(Sequence* sequence, FinishReason reason, StatsRecorder::Update* update,
                        double now) {
  scheduler_.Finish(sequence);
  update->Finished(*sequence, reason, now);
  ActiveRequest* const request = ActiveOf(sequence);
  if (--request->num_unfinished == 0) {
    update->RequestDone(*request);
    Unqueue(request);
  }
}

void EngineLoop::Abort(ActiveRequest* request, FinishReason reason, const Status& error) {
  const double now = clock_->Now();
  bool news = false;
  {
    StatsRecorder::Update update(&stats_);
    for (const auto& sequence : request->sequences) {
      if (sequence->status == SequenceStatus::kFinished) continue;
      Finish(sequence.get(), reason, &update, now);
      news |= request->stream->PushEnd(sequence->index, reason, error);
    }
  }
  if (news) with_news_.push_back(request->stream);
  RetireIfDone(request);
}

void EngineLoop::AbortAll(FinishReason reason, const Status& error) {
  std::vector<ActiveRequest*> all;
  for (const auto& [stream, request] : requests_) all.push_back(request.get());
  for (ActiveRequest* const request : all) Abort(request, reason, error);
}

void EngineLoop::StopSample(StreamState* stream, int index) {
  const auto it = requests_.find(stream);
  if (it == requests_.end()) return;
  Sequence* const sequence = it->second->sequences[static_cast<size_t>(index)].get();
  if (sequence->status == SequenceStatus::kFinished) return;
  {
    StatsRecorder::Update update(&stats_);
    Finish(sequence, FinishReason::kStop, &update, clock_->Now());
  }
  RetireIfDone(it->second.get());
}

void EngineLoop::Unqueue(ActiveRequest* request) {
  if (!std::exchange(request->queued, false)) return;
  inbox_->Unqueue(static_cast<int64_t>(request->prompt.size()));
}

void EngineLoop::RetireIfDone(ActiveRequest* request) {
  if (request->num_unfinished > 0 || request->steps_in_flight > 0) return;
  requests_.erase(request->stream.get());
}

void EngineLoop::UpdateGauges(StatsRecorder::Update* update) {
  const BlockPool& pool = scheduler_.pool();
  update->Gauges(scheduler_.num_running(), scheduler_.num_waiting(),
                 1.0 - static_cast<double>(pool.num_free()) /
                           static_cast<double>(pool.num_usable()));
}

void EngineLoop::NotifyReaders() {
  if (with_news_.empty()) return;
  for (const auto& stream : with_news_) stream->Notify();
  with_news_.clear();
  if (step_hook_) step_hook_();
}

void EngineLoop::Fail(const std::string& what) {
  LOG_ERROR("The engine has failed: {}", what);
  healthy_ = false;
  const double now = clock_->Now();
  StatsRecorder::Update update(&stats_);
  // The scheduler and the sequences may be in any state: only the streams are told. The requests
  // stay until the loop is destroyed, after the runner's thread.
  for (const auto& [stream, request] : requests_) {
    bool news = false;
    for (const auto& sequence : request->sequences) {
      if (sequence->status == SequenceStatus::kFinished) continue;
      update.Finished(*sequence, FinishReason::kError, now);
      news |= stream->PushEnd(sequence->index, FinishReason::kError, FailureStatus());
    }
    if (news) with_news_.push_back(request->stream);
  }
  update.Gauges(0, 0, 0);
}

// What was still in the inbox when the loop ended.
void EngineLoop::Refuse(ActiveRequest* request) {
  for (const auto& sequence : request->sequences) {
    if (healthy_) {
      request->stream->PushEnd(sequence->index, FinishReason::kAbort, OkStatus());
    } else {
      request->stream->PushEnd(sequence->index, FinishReason::kError, FailureStatus());
    }
  }
  with_news_.push_back(request->stream);
}

}  // namespace tiercel::engine
