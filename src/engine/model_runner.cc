#include "engine/model_runner.h"

#include <algorithm>
#include <iterator>
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
      sampled_(static_cast<size_t>(max_num_seqs)),
      under_way_(static_cast<size_t>(model->max_under_way())) {
  for (UnderWay& step : under_way_) step.runner = this;
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
    if (error_.ok()) error_ = Start(plan);
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
  if (!async_ && error_.ok()) {
    error_ = Finish();
    num_done_ = num_finished_;
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return num_done_ > num_taken_ || !error_.ok(); });
  if (num_done_ == num_taken_) return Unexpected(error_);
  ++num_taken_;
  BatchPlan* const plan = queue_.front();
  queue_.erase(queue_.begin());
  return plan;
}

bool ModelRunner::HasResult() {
  std::lock_guard lock(mutex_);
  return async_ ? num_done_ > num_taken_ || !error_.ok() : num_launched_ > 0;
}

// Starts what there is before it waits for what is under way.
void ModelRunner::Loop() {
  model_->BindThread();
  std::unique_lock lock(mutex_);
  const auto has_new = [this] { return num_taken_ + std::ssize(queue_) > num_started_; };
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || has_new() || num_started_ > num_finished_; });
    Status status;
    if (has_new() && num_started_ - num_finished_ < max_under_way()) {
      BatchPlan* const plan = queue_[static_cast<size_t>(num_started_ - num_taken_)];
      lock.unlock();
      status = Start(plan);
      lock.lock();
      if (status.ok()) continue;
    } else if (num_started_ > num_finished_) {
      lock.unlock();
      status = Finish();
      lock.lock();
      num_done_ = num_finished_;
    } else {
      return;
    }
    error_ = status;
    changed_.notify_all();
    lock.unlock();
    on_done_();
    if (!status.ok()) return;
    lock.lock();
  }
}

template <typename Call>
Status ModelRunner::Guard(Call call) {
  try {
    return call();
  } catch (const std::exception& e) {
    return Internal("{}", e.what());
  }
}

Status ModelRunner::Start(BatchPlan* plan) {
  UnderWay& step = under_way_[static_cast<size_t>(num_started_++) % under_way_.size()];
  step.plan = plan;
  step.start = clock_->Now();
  step.next_row.store(0, std::memory_order_relaxed);
  return Guard([&] { return model_->Start(plan->View(sampled_), step); });
}

Status ModelRunner::Finish() {
  const UnderWay& step = under_way_[static_cast<size_t>(num_finished_) % under_way_.size()];
  RETURN_IF_ERROR(Guard([&] { return model_->Finish(); }));
  ++num_finished_;
  // Where steps overlap, what this one added.
  const double now = clock_->Now();
  step.plan->set_seconds(now - std::max(step.start, last_end_));
  last_end_ = now;
  return OkStatus();
}

// Rows cost differently (logprobs, penalties), so each worker takes the next one when it is free. A sequence's
// guesses are verified in order: who takes the first of its rows in the group takes the others, too.
void ModelRunner::UseRows(UnderWay* step, const model::LogitGroup& group, int worker) {
  sampling::Sampler& sampler = samplers_[static_cast<size_t>(worker)];
  const std::span<LogitRow> rows = step->plan->rows();
  const int64_t end = group.first + group.count;
  int64_t r = step->next_row.load(std::memory_order_relaxed);
  while (r < end) {
    if (!step->next_row.compare_exchange_weak(r, r + 1, std::memory_order_relaxed)) continue;
    const auto verifies = [&](int64_t i) { return i > 0 && rows[static_cast<size_t>(i - 1)].GuessesNext(); };
    if (r == group.first || !verifies(r)) {
      int64_t i = r;
      do {
        Use(&rows[static_cast<size_t>(i)], verifies(i) ? &rows[static_cast<size_t>(i - 1)] : nullptr, group.row(i),
            &sampler);
      } while (++i < end && verifies(i));
    }
    ++r;
  }
}

// `before`: the row whose guess this one verifies, or null.
void ModelRunner::Use(LogitRow* row, const LogitRow* before, float* values, sampling::Sampler* sampler) {
  auto* const sample = std::get_if<SampleRow>(&row->purpose);
  if (before != nullptr) {
    const SampleRow& guess = std::get<SampleRow>(before->purpose);
    if (!guess.sampled || guess.result.token != *guess.draft) return;
  }
  try {
    if (sample != nullptr) {
      row->error = sampler->Sample(values, sample->state.get(), &sample->result);
      sample->sampled = row->error.ok();
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
