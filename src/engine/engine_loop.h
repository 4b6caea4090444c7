// EngineLoop: what the engine thread does. It alone owns the scheduler, the blocks and every
// request; all its members but the constructor, Run's start and `stats` are that thread's.
//
// A step: take what has come → Schedule → launch the plan → take the oldest launched plan's results →
// merge them into the requests → publish statistics, then tokens. With asynchronous scheduling two
// plans may be launched at a time, so that the next step is planned while one runs, shortly before
// that should end: its unknown input tokens are placeholders, and a sequence that turns out to have ended
// costs one discarded row. Planned as late as it can be without leaving the workers idle, a step takes in
// the requests that have come meanwhile; planned as early as it could be, it would make them wait for one
// step more. How long steps take is learnt as they run (see step_cost.h).
//
// A request that has ended is gone at once, whatever steps of it are in flight: their plans name it by
// its number and share what the workers touch.
//
// Memory: where the results of a request find no memory, that request ends with kResourceExhausted and
// all others go on. What ends a request, frees its blocks and tells its reader allocates nothing.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/batch_plan.h"
#include "engine/engine_config.h"
#include "engine/inbox.h"
#include "engine/model_runner.h"
#include "engine/scheduler.h"
#include "engine/stats_recorder.h"
#include "engine/step_cost.h"

namespace tiercel::engine {

class EngineLoop {
 public:
  EngineLoop(const EngineConfig& config, model::CausalLm* model, const sampling::VectorOps& ops,
             const Clock* clock, std::shared_ptr<Inbox> inbox);

  // Until the inbox says so, or the model fails. `on_idle` is called when a drain has been ordered and
  // the last request has gone, and at the end.
  void Run(const std::function<void()>& on_idle);

  void SetStepHook(std::function<void()> hook) { step_hook_ = std::move(hook); }
  Stats GetStats() const {
    return stats_.Snapshot([this] { return inbox_->num_submitted_sequences(); });
  }
  bool healthy() const { return healthy_; }

 private:
  // When to do something.
  bool Idle() const { return requests_.empty() && runner_.num_launched() == 0; }
  double SecondsUntilPlanning();
  double SecondsUntilWork();

  // What comes from outside; TakeMail is false when it is time to end.
  bool TakeMail();
  void Accept(std::unique_ptr<ActiveRequest> request);
  void Grant(const StreamState& stream, int index);

  void SleepIfIdle();
  void AnswerSleepers(bool asleep);
  void UseIdleTime();

  // Steps.
  Status Step();
  void Launch();
  void StepBegins(double now);
  void LogStep() const;
  Status ProcessResults();
  void Merge(BatchPlan* batch, BatchEntry* entry, double now);
  void MergeDrafts(std::span<const LogitRow> rows, Sequence* sequence);
  void MergeToken(ActiveRequest* request, Sequence* sequence, SampleRow* row, bool first_of_step, double now);
  void Publish(BatchPlan* batch, BatchEntry* entry);
  FinishReason CheckEnd(const Sequence& sequence, std::optional<int32_t>* stop_token) const;

  // Ends.
  void Finish(ActiveRequest* request, Sequence* sequence, FinishReason reason, double now);
  void Abort(ActiveRequest* request, FinishReason reason, const Status& error);
  void AbortAll(FinishReason reason, const Status& error);
  void Unqueue(ActiveRequest* request);
  void RetireIfDone(ActiveRequest* request);
  void Fail(const Status& error);

  // What readers and operators see.
  void PublishStats();
  void LogIfDue();
  void AddNews(const std::shared_ptr<StreamState>& stream);
  void NotifyReaders();

  const EngineConfig& config_;
  model::CausalLm* const model_;
  const Clock* clock_;
  std::shared_ptr<Inbox> inbox_;
  StepCost cost_;
  Scheduler scheduler_;
  StatsRecorder stats_;
  StepPlan plan_;
  std::vector<std::unique_ptr<BatchPlan>> batches_;
  std::vector<BatchPlan*> free_batches_;
  std::unordered_map<uint64_t, std::unique_ptr<ActiveRequest>> requests_;  // by RequestState::id
  double plan_time_ = 0;  // when to plan the step after the running one
  double rest_ends_ = 0;           // from then on the model may use idle time
  bool has_idle_work_ = true;      // it may have a use for it
  bool waits_for_result_ = false;  // nothing can be planned before one comes, or new mail
  ModelRunner runner_;  // destroyed first of these: its thread uses the batches
  StreamList with_news_;
  int64_t next_arrival_ = 0;
  int64_t num_taken_sequences_ = 0;
  std::function<void()> step_hook_;
  bool hook_due_ = false;
  bool draining_ = false;
  std::vector<std::promise<bool>*> sleepers_;  // wait until nothing runs
  std::atomic<bool> healthy_{true};
};

}  // namespace tiercel::engine
