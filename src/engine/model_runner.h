// ModelRunner: runs launched plans on the model, in order, and samples, or pools, on its workers. Of a model in stages
// several are under way at once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "engine/batch_plan.h"
#include "model/causal_lm.h"
#include "sampling/sampler.h"

namespace tiercel::engine {

// Launch and Wait belong to the engine thread. Without `async` Launch runs the plan there, so the
// engine thread is worker 0; with it a thread of its own does, so that the engine can plan the
// next step meanwhile; `on_done` is called there after each plan. Sampling states change in the order of the launches, on the workers: a
// later step's penalties and seeds see the earlier step's token whatever the engine does.
class ModelRunner {
 public:
  ModelRunner(model::CausalLm* model, const sampling::VectorOps& ops, const Clock* clock,
              sampling::LogprobsMode logprobs_mode, Pooler pooler, int64_t max_num_seqs, bool async,
              std::function<void()> on_done);
  ~ModelRunner();  // waits for what was launched

  // Once, at the start of the engine thread.
  void BindThread();

  // The plan belongs to the runner until Wait returns it. At most `depth()` at a time.
  void Launch(BatchPlan* plan);
  // Waits for the oldest launched plan. A failure is the model's, and then nothing more runs.
  Expected<BatchPlan*> Wait();

  int max_under_way() const { return static_cast<int>(under_way_.size()); }
  int depth() const { return max_under_way() + (async_ ? 1 : 0); }
  int num_launched() const { return num_launched_; }
  bool HasResult();  // Wait would not wait

 private:
  // A plan that the model has started.
  struct UnderWay {
    ModelRunner* runner = nullptr;
    BatchPlan* plan = nullptr;
    double start = 0;
    std::atomic<int64_t> next_row{0};

    void operator()(const model::LogitGroup& group, int worker) { runner->UseRows(this, group, worker); }
  };

  // Of the oldest plan that has not been started, or finished.
  Status Start(BatchPlan* plan);
  Status Finish();
  template <typename Call>
  static Status Guard(Call call);
  void UseRows(UnderWay* step, const model::LogitGroup& group, int worker);
  void Use(LogitRow* row, const LogitRow* before, float* values, sampling::Sampler* sampler);
  void Loop();

  model::CausalLm* model_;
  const Clock* const clock_;
  const bool async_;
  const std::function<void()> on_done_;
  std::vector<sampling::Sampler> samplers_;  // by worker
  const Pooler pooler_;
  std::vector<int32_t> sampled_;             // by slot
  std::vector<UnderWay> under_way_;          // in turn
  int64_t num_started_ = 0, num_finished_ = 0;  // of all plans; the thread's that runs them
  double last_end_ = 0;
  int num_launched_ = 0;  // engine thread's

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<BatchPlan*> queue_;     // launched and not waited for, oldest first
  int64_t num_taken_ = 0;             // of all plans those that have been waited for
  int64_t num_done_ = 0;              // that have been finished
  Status error_;                      // the model's
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tiercel::engine
