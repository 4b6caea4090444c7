#include "engine/model_runner.h"

#include <new>

#include "base/check.h"

namespace tiercel::engine {

ModelRunner::ModelRunner(model::CausalLm* model, const sampling::VectorOps& ops,
                         const Clock* clock, sampling::LogprobsMode logprobs_mode, Pooler pooler, int64_t max_num_seqs,
                         bool async, std::function<void()> on_done)
    : model_(model),
      clock_(clock),
      async_(async),
      on_done_(std::move(on_done)),
      pooler_(std::move(pooler)),
      sampled_(static_cast<size_t>(max_num_seqs)) {
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
    error_ = Execute(plan);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(plan);
  }
  changed_.notify_all();
}

Expected<BatchPlan*> ModelRunner::Wait() {
  CHECK_GT(num_launched_, 0);
  --num_launched_;
  std::unique_lock lock(mutex_);
  if (async_) {
    changed_.wait(lock, [this] { return num_done_ > 0 || !error_.ok(); });
    if (num_done_ == 0) return Unexpected(error_);
    --num_done_;
  } else if (!error_.ok()) {
    return Unexpected(error_);
  }
  BatchPlan* const plan = queue_.front();
  queue_.erase(queue_.begin());
  return plan;
}

bool ModelRunner::HasResult() {
  std::lock_guard lock(mutex_);
  return async_ ? num_done_ > 0 || !error_.ok() : num_launched_ > 0;
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
    Status status = Execute(plan);
    lock.lock();
    if (!status.ok()) {
      error_ = std::move(status);
      changed_.notify_all();
      lock.unlock();
      on_done_();
      return;
    }
    ++num_done_;
    changed_.notify_all();
    lock.unlock();
    on_done_();
    lock.lock();
  }
}

Status ModelRunner::Execute(BatchPlan* plan) {
  next_row_.store(0, std::memory_order_relaxed);
  const double start = clock_->Now();
  try {
    RETURN_IF_ERROR(model_->Run(plan->View(sampled_), [this, plan](const model::LogitGroup& group,
                                                                   int worker) {
      UseRows(plan, group, worker);
    }));
    plan->set_seconds(clock_->Now() - start);
    return OkStatus();
  } catch (const std::exception& e) {
    return Internal("{}", e.what());
  }
}

// Rows cost differently (logprobs, penalties), so each worker takes the next one when it is free.
void ModelRunner::UseRows(BatchPlan* plan, const model::LogitGroup& group, int worker) {
  sampling::Sampler& sampler = samplers_[static_cast<size_t>(worker)];
  const int64_t end = group.first + group.count;
  int64_t r = next_row_.load(std::memory_order_relaxed);
  while (r < end) {
    if (!next_row_.compare_exchange_weak(r, r + 1, std::memory_order_relaxed)) continue;
    Use(&plan->rows()[static_cast<size_t>(r)], group.row(r), &sampler);
    ++r;
  }
}

void ModelRunner::Use(LogitRow* row, float* values, sampling::Sampler* sampler) {
  auto* const sample = std::get_if<SampleRow>(&row->purpose);
  try {
    if (sample != nullptr) {
      row->error = sampler->Sample(values, sample->state.get(), &sample->result);
    } else if (auto* const pooled = std::get_if<PooledRow>(&row->purpose)) {
      row->error = pooler_.Pool(values, *pooled->params, &pooled->result);
    } else {
      PromptRow& prompt = std::get<PromptRow>(row->purpose);
      sampler->PromptLogprobs(values, prompt.token, prompt.top_count, &prompt.result);
    }
  } catch (const std::bad_alloc&) {
    row->error = Status(StatusCode::kResourceExhausted, {});
  }
  // A token in any case: the next step, planned before this result is known, may read it.
  if (sample != nullptr) sampled_[static_cast<size_t>(sample->slot)] = sample->result.token;
}

}  // namespace tiercel::engine
