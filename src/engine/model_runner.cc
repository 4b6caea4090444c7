#include "engine/model_runner.h"

#include "base/check.h"

namespace tiercel::engine {

ModelRunner::ModelRunner(model::CausalLm* model, const sampling::VectorOps& ops,
                         sampling::LogprobsMode logprobs_mode, int64_t max_num_seqs, bool async,
                         std::function<void()> on_done)
    : model_(model), async_(async), on_done_(std::move(on_done)), sampled_(static_cast<size_t>(max_num_seqs)) {
  samplers_.reserve(static_cast<size_t>(model->workers()));
  for (int i = 0; i < model->workers(); ++i) {
    samplers_.emplace_back(ops, model->vocab_size(), logprobs_mode);
  }
  queue_.reserve(static_cast<size_t>(depth()));
  if (async_) thread_ = std::thread([this] { Loop(); });
}

ModelRunner::~ModelRunner() {
  if (!async_) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void ModelRunner::BindThread() {
  if (!async_) model_->BindThread();
}

void ModelRunner::Launch(BatchPlan* plan) {
  CHECK_LT(num_launched_, depth());
  ++num_launched_;
  if (!async_) {
    queue_.push_back(plan);
    Execute(plan);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(plan);
  }
  changed_.notify_all();
}

BatchPlan* ModelRunner::Wait() {
  CHECK_GT(num_launched_, 0);
  --num_launched_;
  std::unique_lock lock(mutex_);
  if (async_) {
    changed_.wait(lock, [this] { return num_done_ > 0 || error_; });
    if (num_done_ == 0) std::rethrow_exception(error_);
    --num_done_;
  }
  BatchPlan* const plan = queue_.front();
  queue_.erase(queue_.begin());
  return plan;
}

bool ModelRunner::HasResult() {
  std::lock_guard lock(mutex_);
  return async_ ? num_done_ > 0 || error_ != nullptr : num_launched_ > 0;
}

void ModelRunner::Loop() {
  model_->BindThread();
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] {
      return stopping_ || static_cast<int64_t>(queue_.size()) > num_done_;
    });
    if (static_cast<int64_t>(queue_.size()) <= num_done_) return;
    BatchPlan* const plan = queue_[static_cast<size_t>(num_done_)];
    lock.unlock();
    try {
      Execute(plan);
    } catch (...) {
      lock.lock();
      error_ = std::current_exception();
      changed_.notify_all();
      lock.unlock();
      on_done_();
      return;
    }
    lock.lock();
    ++num_done_;
    changed_.notify_all();
    lock.unlock();
    on_done_();
    lock.lock();
  }
}

void ModelRunner::Execute(BatchPlan* plan) {
  next_task_.store(0, std::memory_order_relaxed);
  model_->Run(plan->View(sampled_), [this, plan](int worker) { Sample(plan, worker); });
}

// Rows cost differently (logprobs, penalties), so each worker takes the next one when it is free.
void ModelRunner::Sample(BatchPlan* plan, int worker) {
  sampling::Sampler& sampler = samplers_[static_cast<size_t>(worker)];
  const auto& tasks = plan->tasks();
  while (true) {
    const int64_t r = next_task_.fetch_add(1, std::memory_order_relaxed);
    if (r >= static_cast<int64_t>(tasks.size())) return;
    const LogitTask& task = tasks[static_cast<size_t>(r)];
    float* const logits = model_->Logits(r);
    if (task.sampling == nullptr) {
      sampler.PromptLogprobs(logits, task.next_token, task.top_count, task.prompt_logprobs);
      continue;
    }
    sampling::SampledToken& result = plan->results()[static_cast<size_t>(r)];
    sampler.Sample(logits, task.sampling, &result);
    sampled_[static_cast<size_t>(task.slot)] = result.token;
  }
}

}  // namespace tiercel::engine
