#include "engine/engine_loop.h"

#include <algorithm>
#include <limits>
#include <new>

#include "base/check.h"
#include "base/log.h"

namespace tiercel::engine {
namespace {

SchedulerOptions MakeSchedulerOptions(const EngineConfig& config, int steps_under_way) {
  const EngineOptions& o = config.options;
  SchedulerOptions s;
  s.max_length = config.max_length;
  s.steps_under_way = steps_under_way;
  s.max_num_batched_tokens = o.max_num_batched_tokens;
  s.max_num_seqs = o.max_num_seqs;
  s.num_blocks = config.kv.num_blocks;
  s.block_size = o.block_size;
  s.enable_prefix_caching = o.enable_prefix_caching;
  s.enable_chunked_prefill = o.enable_chunked_prefill;
  s.long_prefill_token_threshold = o.long_prefill_token_threshold;
  s.by_priority = o.scheduling_policy == SchedulingPolicy::kPriority;
  s.target_itl = o.target_itl;
  s.drafts = o.drafts;
  return s;
}

Status FailureStatus() {
  return Internal("EngineCore encountered an issue. See stack trace (above) for the root cause.");
}

// Works without memory, too: then the code alone says it.
Status OutOfMemory() {
  try {
    return ResourceExhausted("The server has no memory for this request. Try again later.");
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kResourceExhausted, {});
  }
}

// How long before a step's end the next one is planned: for planning (a fraction of a millisecond), for
// a wake-up on a busy machine, and because steps differ.
constexpr double kLeadSeconds = 0.001;
constexpr double kLeadFraction = 0.15;

// A client that sends one request after the other should not meet work that waited for it to pause.
constexpr double kRestSeconds = 0.1;

// How soon readers that could not be told for want of memory are told again.
constexpr double kRetrySeconds = 0.01;

}  // namespace

EngineLoop::EngineLoop(const EngineConfig& config, model::CausalLm* model,
                       const sampling::VectorOps& ops, const Clock* clock,
                       std::shared_ptr<Inbox> inbox)
    : config_(config), model_(model), clock_(clock), inbox_(std::move(inbox)),
      scheduler_(MakeSchedulerOptions(config, model->max_under_way()), PrefixHasher(), &cost_),
      stats_(config.options.max_model_len, config.kv.num_blocks, config.options.log_stats_interval,
             clock->Now(), config.options.drafts ? config.options.drafts->num_tokens : 0),
      runner_(model, ops, clock, config.options.logprobs_mode,
              Pooler(model->hidden_size(), config.options.classifier), config.options.max_num_seqs,
              config.options.async_scheduling, [inbox = inbox_.get()] { inbox->Wake(); }) {
  for (int i = 0; i < runner_.depth(); ++i) {
    batches_.push_back(
        std::make_unique<BatchPlan>(config.limits, config.max_length, config.kv.block_size));
    free_batches_.push_back(batches_.back().get());
  }
  plan_.entries.reserve(static_cast<size_t>(config.options.max_num_seqs));
  rest_ends_ = clock->Now() + kRestSeconds;
}

void EngineLoop::Run(const std::function<void()>& on_idle) {
  runner_.BindThread();
  Status status;
  try {
    bool go_on = true;
    while (go_on && status.ok()) {
      if (Idle() && draining_ && !inbox_->has_searches()) on_idle();
      SleepIfIdle();
      inbox_->Wait(SecondsUntilWork());
      go_on = TakeMail();
      if (go_on && Idle()) status = model_->Check();
      if (status.ok() && go_on && !Idle() && SecondsUntilPlanning() <= 0) status = Step();
      if (status.ok() && go_on) UseIdleTime();
      LogIfDue();
      NotifyReaders();
    }
    while (status.ok() && runner_.num_launched() > 0) status = ProcessResults();
  } catch (const std::exception& e) {
    status = Internal("{}", e.what());
  }
  // First nothing more is let in, then the streams are told.
  inbox_->Close();
  if (!status.ok()) Fail(status);
  const Inbox::Orders orders = inbox_->TakeOrders();
  sleepers_.insert(sleepers_.end(), orders.sleeps.begin(), orders.sleeps.end());
  sleepers_.insert(sleepers_.end(), orders.woken.begin(), orders.woken.end());
  for (std::promise<bool>* answer : orders.resets) answer->set_value(false);
  AnswerSleepers(false);
  while (std::unique_ptr<ActiveRequest> request = inbox_->NextRequest()) {
    Accept(std::move(request));
  }
  AbortAll(healthy_ ? FinishReason::kAbort : FinishReason::kError,
           healthy_ ? OkStatus() : FailureStatus());
  NotifyReaders();
  on_idle();
}

// Infinite when idle, 0 when there is something to do now.
double EngineLoop::SecondsUntilPlanning() {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  if (Idle()) return kNever;
  if (runner_.num_launched() == 0 || runner_.num_launched() == runner_.depth() || runner_.HasResult()) return 0;
  // The end of a step wakes the inbox, in case it comes earlier than expected.
  if (waits_for_result_) return kNever;
  if (runner_.num_launched() < runner_.max_under_way()) return 0;
  return std::max(0.0, plan_time_ - clock_->Now());
}

double EngineLoop::SecondsUntilWork() {
  double seconds = SecondsUntilPlanning();
  if (Idle()) {
    const double now = clock_->Now();
    seconds = std::min({seconds, stats_.SecondsUntilLine(now), model_->SecondsBetweenChecks()});
    if (has_idle_work_) seconds = std::min(seconds, std::max(0.0, rest_ends_ - now));
  }
  if (hook_due_ || !with_news_.empty()) seconds = std::min(seconds, kRetrySeconds);
  return seconds;
}

bool EngineLoop::TakeMail() {
  const bool was_idle = Idle();
  const Inbox::Orders orders = inbox_->TakeOrders();
  bool changed = false;
  while (std::unique_ptr<ActiveRequest> request = inbox_->NextRequest()) {
    Accept(std::move(request));
    changed = true;
  }
  if (was_idle && changed) stats_.WorkCame(clock_->Now());
  int index;
  while (const std::shared_ptr<StreamState> stream = inbox_->NextWish(&index)) {
    Grant(*stream, index);
    changed = true;
  }
  for (std::promise<bool>* answer : orders.resets) {
    answer->set_value(scheduler_.ResetPrefixCache());
  }
  if (orders.wake) AnswerSleepers(false);
  for (std::promise<bool>* answer : orders.woken) answer->set_value(false);
  sleepers_.insert(sleepers_.end(), orders.sleeps.begin(), orders.sleeps.end());
  if (orders.abort_all) AbortAll(FinishReason::kAbort, OkStatus());
  if (orders.drain) draining_ = true;
  if (changed) {
    waits_for_result_ = false;
    PublishStats();
  }
  return !orders.shut_down;
}

void EngineLoop::SleepIfIdle() {
  if (sleepers_.empty() || !Idle() || inbox_->has_searches()) return;
  CHECK(scheduler_.ResetPrefixCache());
  model_->EmptyCache();
  AnswerSleepers(true);
}

void EngineLoop::AnswerSleepers(bool asleep) {
  for (std::promise<bool>* answer : sleepers_) answer->set_value(asleep);
  sleepers_.clear();
}

void EngineLoop::UseIdleTime() {
  if (Idle() && has_idle_work_ && clock_->Now() >= rest_ends_) has_idle_work_ = model_->UseIdleTime();
}

void EngineLoop::Accept(std::unique_ptr<ActiveRequest> owned) {
  ActiveRequest* const request = owned.get();
  num_taken_sequences_ += static_cast<int64_t>(request->state.sequences.size());
  request->state.arrival = next_arrival_++;
  try {
    std::unique_ptr<ActiveRequest>& place = requests_[request->state.id];
    if (healthy_) scheduler_.Add(&request->state);
    place = std::move(owned);
  } catch (const std::bad_alloc&) {
    // The scheduler does not know it.
    requests_.erase(request->state.id);
    for (const auto& sequence : request->state.sequences) {
      stats_.Finished(*request, *sequence, FinishReason::kError, clock_->Now());
      request->stream->PushEnd(sequence->index, FinishReason::kError, OutOfMemory());
    }
    stats_.RequestDone(*request);
    AddNews(request->stream);
    Unqueue(request);
  }
}

// What the reader of a stream wants.
void EngineLoop::Grant(const StreamState& stream, int index) {
  const auto it = requests_.find(stream.request);
  if (it == requests_.end()) return;
  ActiveRequest* const request = it->second.get();
  if (index == Inbox::kAllSamples) return Abort(request, FinishReason::kAbort, OkStatus());
  Sequence* const sequence = request->state.sequences[static_cast<size_t>(index)].get();
  if (sequence->status == SequenceStatus::kFinished) return;
  Finish(request, sequence, FinishReason::kStop, clock_->Now());
  RetireIfDone(request);
}

Status EngineLoop::Step() {
  const bool had_launched = runner_.num_launched() > 0;
  const bool may_plan = runner_.num_launched() < runner_.depth() && !waits_for_result_;
  if (may_plan) Launch();
  const bool planned = may_plan && !plan_.entries.empty();
  // With nothing running and nothing planned there would never be a step again.
  CHECK_MSG(planned || had_launched || requests_.empty(), "{} requests wait and none can run",
            requests_.size());
  if (runner_.num_launched() == runner_.depth() || (had_launched && !planned && runner_.HasResult())) {
    return ProcessResults();
  }
  waits_for_result_ = had_launched && !planned;
  return OkStatus();
}

void EngineLoop::Launch() {
  scheduler_.Schedule(&plan_);
  if (plan_.entries.empty()) return;
  const double now = clock_->Now();
  stats_.Step(plan_.work.rows);
  for (const PlanEntry& entry : plan_.entries) {
    Sequence* const sequence = entry.sequence;
    if (sequence->first_scheduled_time >= 0) continue;
    ActiveRequest* const request = requests_.at(sequence->request->id).get();
    stats_.FirstScheduled(*request, sequence, now);
    Unqueue(request);
  }
  BatchPlan* const batch = free_batches_.back();
  free_batches_.pop_back();
  batch->Build(plan_);
  if (runner_.num_launched() == 0) {
    PublishStats();  // with steps in flight their results will
    StepBegins(clock_->Now());
  }
  LogStep();
  runner_.Launch(batch);
}

// The step that was planned last runs from now on.
void EngineLoop::StepBegins(double now) {
  plan_time_ = now;
  if (!cost_.known()) return;
  const double expected = cost_.Seconds(plan_.work);
  plan_time_ += std::max(0.0, expected - std::max(kLeadSeconds, kLeadFraction * expected));
}

void EngineLoop::LogStep() const {
  const int64_t prompts = std::ssize(plan_.entries) - plan_.num_streams;
  if (prompts == 0 || !cost_.known() || !spdlog::should_log(LogLevel::debug)) return;
  try {
    LOG_DEBUG("Engine {:03}: a step of {} tokens of {} prompts beside {} streams should take {:.0f} ms, "
              "at most {:.0f} ms",
              config_.options.index, plan_.work.rows - plan_.num_stream_rows, prompts,
              plan_.num_streams, 1e3 * cost_.Seconds(plan_.work),
              1e3 * scheduler_.planner().limit());
  } catch (const std::bad_alloc&) {
    // One line less.
  }
}

Status EngineLoop::ProcessResults() {
  ASSIGN_OR_RETURN(BatchPlan* const batch, runner_.Wait());
  waits_for_result_ = false;
  const double now = clock_->Now();
  rest_ends_ = now + kRestSeconds;
  has_idle_work_ = true;
  const int64_t prompt_tokens = batch->num_prompt_tokens();
  if (prompt_tokens > 0 && batch->work().rows > prompt_tokens) {
    scheduler_.MixedStepTook(batch->work(), batch->seconds());
  }
  cost_.Record(batch->work(), batch->seconds());
  if (prompt_tokens > 0) {
    stats_.PromptStep(prompt_tokens, batch->seconds());
  }
  if (runner_.num_launched() > 0) StepBegins(now);
  for (BatchEntry& entry : batch->entries()) Merge(batch, &entry, now);
  // Before the tokens: who has seen a last token sees its blocks free as well.
  PublishStats();
  for (BatchEntry& entry : batch->entries()) Publish(batch, &entry);
  batch->Clear();
  free_batches_.push_back(batch);
  return OkStatus();
}

// Takes an entry's results into its request.
void EngineLoop::Merge(BatchPlan* batch, BatchEntry* entry, double now) {
  const auto it = requests_.find(entry->request);
  if (it == requests_.end()) return;  // it ended while the step ran
  ActiveRequest* const request = it->second.get();
  Sequence* const sequence = request->state.sequences[static_cast<size_t>(entry->sample)].get();
  Status error;
  try {
    MergeDrafts(batch->RowsOf(*entry), sequence);
    bool first_of_step = true;
    for (LogitRow& row : batch->RowsOf(*entry)) {
      auto* const sample = std::get_if<SampleRow>(&row.purpose);
      // It has ended while the step ran, or with the row before.
      if (sample != nullptr && sequence->status == SequenceStatus::kFinished) continue;
      error = std::move(row.error);
      if (!error.ok()) break;
      if (auto* const prompt = std::get_if<PromptRow>(&row.purpose)) {
        CHECK_LT(prompt->position, std::ssize(request->prompt_logprobs));
        request->prompt_logprobs[static_cast<size_t>(prompt->position)] =
            std::move(prompt->result);
        continue;
      }
      const PromptTimes times{request->arrival_time, sequence->first_scheduled_time, now};
      if (auto* const pooled = std::get_if<PooledRow>(&row.purpose)) {
        request->pooled.push_back(std::move(pooled->result));
        if (!pooled->is_last) continue;
        entry->prompt_info = {request->state.num_cached_tokens, {}, std::move(request->pooled), times};
        stats_.Pooled(*sequence);
        Finish(request, sequence, FinishReason::kStop, now);
        continue;
      }
      if (!sample->sampled) continue;
      if (!std::exchange(request->info_published, true)) {
        entry->prompt_info = {request->state.num_cached_tokens,
                              std::move(request->prompt_logprobs), {}, times};
      }
      MergeToken(request, sequence, sample, std::exchange(first_of_step, false), now);
    }
  } catch (const std::bad_alloc&) {
    error = OutOfMemory();
  }
  if (error.code() == StatusCode::kResourceExhausted) error = OutOfMemory();
  if (!error.ok()) return Abort(request, FinishReason::kError, error);
  entry->stream = request->stream;
  RetireIfDone(request);
}

// Takes back what was planned with guesses that were wrong.
void EngineLoop::MergeDrafts(std::span<const LogitRow> rows, Sequence* sequence) {
  int64_t guessed = 0, right = 0;
  for (size_t i = 0; i + 1 < rows.size(); ++i) {
    if (!rows[i].GuessesNext()) continue;
    ++guessed;
    right += std::get<SampleRow>(rows[i + 1].purpose).sampled ? 1 : 0;
  }
  if (guessed == 0 || sequence->status == SequenceStatus::kFinished) return;
  scheduler_.Verified(sequence, right, guessed - right);
  stats_.Drafts(guessed, right);
}

void EngineLoop::MergeToken(ActiveRequest* request, Sequence* sequence, SampleRow* row, bool first_of_step,
                            double now) {
  scheduler_.AppendToken(sequence, row->result.token);
  stats_.Token(*request, sequence, now, first_of_step);
  row->kept = true;
  row->finish = CheckEnd(*sequence, &row->stop_token);
  if (row->finish != FinishReason::kNone) Finish(request, sequence, row->finish, now);
}

// Hands an entry's tokens to the reader. The request may be gone by now.
void EngineLoop::Publish(BatchPlan* batch, BatchEntry* entry) {
  if (entry->stream == nullptr) return;
  StreamState& stream = *entry->stream;
  bool news = false;
  try {
    if (entry->prompt_info) stream.SetPromptInfo(std::move(*entry->prompt_info));
    for (LogitRow& row : batch->RowsOf(*entry)) {
      if (const auto* const pooled = std::get_if<PooledRow>(&row.purpose)) {
        if (pooled->is_last) news |= stream.PushEnd(entry->sample, FinishReason::kStop, OkStatus());
        continue;
      }
      auto* const sample = std::get_if<SampleRow>(&row.purpose);
      if (sample == nullptr || !sample->kept) continue;
      news |= stream.Push(entry->sample, {sample->result.token, std::move(sample->result.top)},
                          sample->finish, sample->stop_token);
    }
  } catch (const std::bad_alloc&) {
    const auto it = requests_.find(entry->request);
    if (it != requests_.end()) Abort(it->second.get(), FinishReason::kError, OutOfMemory());
    news |= stream.PushEnd(entry->sample, FinishReason::kError, OutOfMemory());
  }
  if (news) AddNews(entry->stream);
}

// vLLM's order: the primary eos and the stop tokens, but not before min_tokens; the length; repetition,
// which also waits for min_tokens.
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
  if (length >= params.min_tokens &&
      sampling::EndsInRepetition(sequence.output, params.repetition_detection)) {
    return FinishReason::kRepetition;
  }
  return FinishReason::kNone;
}

void EngineLoop::Finish(ActiveRequest* request, Sequence* sequence, FinishReason reason,
                        double now) {
  if (healthy_) {
    scheduler_.Finish(sequence);
  } else {
    sequence->status = SequenceStatus::kFinished;
  }
  stats_.Finished(*request, *sequence, reason, now);
  if (--request->num_unfinished > 0) return;
  stats_.RequestDone(*request);
  Unqueue(request);
}

// Ends what of the request has not ended, and the request. PublishStats comes first, see
// ProcessResults.
void EngineLoop::Abort(ActiveRequest* request, FinishReason reason, const Status& error) {
  const double now = clock_->Now();
  for (const auto& sequence : request->state.sequences) {
    if (sequence->status != SequenceStatus::kFinished) {
      Finish(request, sequence.get(), reason, now);
    }
  }
  PublishStats();
  bool news = false;
  for (const auto& sequence : request->state.sequences) {
    news |= request->stream->PushEnd(sequence->index, reason, error);
  }
  if (news) AddNews(request->stream);
  RetireIfDone(request);
}

void EngineLoop::AbortAll(FinishReason reason, const Status& error) {
  while (!requests_.empty()) Abort(requests_.begin()->second.get(), reason, error);
}

void EngineLoop::Unqueue(ActiveRequest* request) {
  if (!std::exchange(request->queued, false)) return;
  inbox_->Unqueue(static_cast<int64_t>(request->state.prompt.size()));
}

void EngineLoop::RetireIfDone(ActiveRequest* request) {
  if (request->num_unfinished == 0) requests_.erase(request->state.id);
}

void EngineLoop::PublishStats() {
  const BlockPool& pool = scheduler_.pool();
  stats_.Totals(scheduler_.num_preempted(), scheduler_.prefix_queries(), scheduler_.prefix_hits());
  if (healthy_) {
    stats_.Gauges(scheduler_.num_running(), scheduler_.num_waiting(), num_taken_sequences_,
                  1.0 - static_cast<double>(pool.num_free()) /
                            static_cast<double>(pool.num_usable()));
  } else {
    stats_.Gauges(0, 0, num_taken_sequences_, 0);
  }
  stats_.Publish();
}

void EngineLoop::LogIfDue() {
  try {
    if (const std::optional<std::string> line = stats_.LogLine(clock_->Now())) {
      LOG_INFO("Engine {:03}: {}", config_.options.index, *line);
    }
  } catch (const std::bad_alloc&) {
    // The next line covers it.
  }
}

void EngineLoop::AddNews(const std::shared_ptr<StreamState>& stream) {
  if (stream->news_node.empty()) return;  // it is in the list
  stream->news_node.front() = stream;
  with_news_.splice(with_news_.end(), stream->news_node);
}

void EngineLoop::NotifyReaders() {
  hook_due_ |= !with_news_.empty();
  try {
    while (!with_news_.empty()) {
      with_news_.front()->Notify();
      const std::shared_ptr<StreamState> stream = std::move(with_news_.front());
      stream->news_node.splice(stream->news_node.begin(), with_news_, with_news_.begin());
    }
    if (hook_due_ && step_hook_) step_hook_();
    hook_due_ = false;
  } catch (const std::bad_alloc&) {
    // Who was not told is told later.
  }
}

// The scheduler may be in any state: from now on nothing is asked of it.
void EngineLoop::Fail(const Status& error) {
  LOG_ERROR("The engine has failed: {}", error.message());
  healthy_ = false;
}

}  // namespace tiercel::engine
