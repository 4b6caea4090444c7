// EngineLoop: what the engine thread does. It alone owns the scheduler, the blocks and every
// request; all its members but the constructor, Run's start and `stats` are that thread's.
//
// A step: take the inbox → Schedule → launch the plan → take the oldest launched plan's results
// → append, check for the end, publish. With asynchronous scheduling two plans may be launched at a
// time, so that the next step is planned while one runs, shortly before that should end (see
// step_timer.h): its unknown input tokens are placeholders, and a sequence that turns out to have
// ended costs one discarded row.
#pragma once

#include <atomic>
#include <deque>
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
#include "engine/step_timer.h"

namespace tiercel::engine {

class EngineLoop {
 public:
  EngineLoop(const EngineConfig& config, model::CausalLm* model, const sampling::VectorOps& ops,
             const Clock* clock, std::shared_ptr<Inbox> inbox);

  // Until kShutDown comes, or the model fails. `on_idle` is called when kDrain has been taken and
  // the last request has gone, and at the end.
  void Run(const std::function<void()>& on_idle);

  void SetStepHook(std::function<void()> hook) { step_hook_ = std::move(hook); }
  Stats GetStats() const { return stats_.Snapshot(); }
  bool healthy() const { return healthy_; }

 private:
  bool Idle() const { return requests_.empty() && runner_.num_launched() == 0; }
  double SecondsUntilPlanning();
  bool HandleMessages(double wait_seconds);  // false: shut down
  void Step();
  void Launch();
  void ProcessResults();
  void ProcessToken(Sequence* sequence, sampling::SampledToken* result,
                    StatsRecorder::Update* update, double now);
  FinishReason CheckEnd(const Sequence& sequence, std::optional<int32_t>* stop_token) const;
  void PublishPromptInfo(ActiveRequest* request);
  void Finish(Sequence* sequence, FinishReason reason, StatsRecorder::Update* update, double now);
  void Abort(ActiveRequest* request, FinishReason reason, const Status& error);
  void AbortAll(FinishReason reason, const Status& error);
  void StopSample(StreamState* stream, int index);
  void Unqueue(ActiveRequest* request);
  void RetireIfDone(ActiveRequest* request);
  void UpdateGauges(StatsRecorder::Update* update);
  void NotifyReaders();
  void Fail(const std::string& what);
  void Refuse(ActiveRequest* request);

  const EngineConfig& config_;
  const Clock* clock_;
  std::shared_ptr<Inbox> inbox_;
  Scheduler scheduler_;
  StatsRecorder stats_;
  StepPlan plan_;
  std::vector<std::unique_ptr<BatchPlan>> batches_;
  std::vector<BatchPlan*> free_batches_;
  std::unordered_map<StreamState*, std::unique_ptr<ActiveRequest>> requests_;
  StepTimer timer_;
  ModelRunner runner_;  // destroyed first of these: its thread uses the batches and the requests
  std::vector<Message> messages_;
  std::vector<std::shared_ptr<StreamState>> with_news_;
  int64_t next_arrival_ = 0;
  std::function<void()> step_hook_;
  bool draining_ = false;
  std::atomic<bool> healthy_{true};
};

}  // namespace tiercel::engine
