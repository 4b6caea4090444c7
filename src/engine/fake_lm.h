// FakeLm: a CausalLm for tests, deterministic and exact about what it is given.
//
// Its "cache" holds each written token with its position. The logits of a row are a pure function
// of the tokens that it reads back through the block table, from position 0 up to its own, so a
// wrong block table, a block that was reused too early or a wrong shared prefix changes the tokens.
// It CHECKs the contract of model/causal_lm.h: sizes, ascending rows, block 0, known placeholders.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "model/causal_lm.h"

namespace tiercel::engine {

struct FakeLmOptions {
  int64_t vocab_size = 101;
  int64_t hidden_size = 0;  // > 0: gives hidden states of that size, by the function of the logits
  int64_t max_position = 4096;
  int workers = 1;
  int max_under_way = 1;  // > 1: logits are used in Finish, as if they came from another stage then
  double step_seconds = 0;      // each step sleeps that long
  int64_t fail_at_step = -1;    // Run fails in this step (0-based)
  bool fail_by_throwing = false;  // instead of by its Status
  double seconds_between_checks = std::numeric_limits<double>::infinity();
  int64_t kv_block_bytes = 1024;
  int64_t idle_work = 0;  // so many calls have something to do, after the start and after each step
  // Overrides the logits of a row: (tokens up to and with the row's, logits [vocab_size]).
  std::function<void(const std::vector<int32_t>&, float*)> logits;
};

class FakeLm final : public model::CausalLm {
 public:
  explicit FakeLm(FakeLmOptions options = {})
      : options_(std::move(options)), idle_work_(options_.idle_work) {}

  int64_t vocab_size() const override { return options_.vocab_size; }
  checkpoint::Head head() const override {
    return options_.hidden_size > 0 ? checkpoint::Head::kHidden : checkpoint::Head::kLogits;
  }
  int64_t hidden_size() const override { return options_.hidden_size; }
  int64_t max_position() const override { return options_.max_position; }
  int workers() const override { return options_.workers; }
  int64_t KvBlockBytes(int) const override { return options_.kv_block_bytes; }
  int64_t WeightBytes() const override { return 1 << 20; }
  int64_t ActivationBytes(const model::RunLimits&) const override { return 1 << 20; }

  Status Prepare(const model::KvOptions& kv, const model::RunLimits& limits) override {
    kv_ = kv;
    limits_ = limits;
    cache_.assign(static_cast<size_t>(kv.num_blocks * kv.block_size), Cell{});
    history_.reserve(static_cast<size_t>(options_.max_position));
    logits_.resize(static_cast<size_t>(limits.logit_group_rows * width()));
    return OkStatus();
  }

  Status Check() override {
    CHECK(!running_);
    return broken_ ? Unavailable("injected absence") : OkStatus();
  }
  double SecondsBetweenChecks() const override { return options_.seconds_between_checks; }
  bool UseIdleTime() override {
    CHECK(!running_);
    const bool had_work = idle_work_ > 0;
    idle_work_ -= had_work ? 1 : 0;
    ++idle_calls_;
    return had_work;
  }
  void Break() { broken_ = true; }  // any thread

  void BindThread() override { bound_ = std::this_thread::get_id(); }

  Status Run(const model::StepBatch& batch, model::UseLogits after) override {
    CHECK(bound_ == std::this_thread::get_id());
    CHECK(under_way_.empty());
    running_ = true;
    const Status status = RunStep(batch, [&](const model::LogitGroup& group) { CallAll(group, after); });
    running_ = false;
    return status;
  }

  int max_under_way() const override { return options_.max_under_way; }

  Status Start(const model::StepBatch& batch, model::UseLogits after) override {
    if (options_.max_under_way == 1) return Run(batch, after);
    CHECK(bound_ == std::this_thread::get_id());
    CHECK_LT(std::ssize(under_way_), options_.max_under_way);
    running_ = true;
    most_under_way_ = std::max(most_under_way_.load(), std::ssize(under_way_) + 1);
    UnderWay& step = under_way_.emplace_back(UnderWay{after, {}});
    return RunStep(batch, [&](const model::LogitGroup& group) {
      step.groups.emplace_back(group, std::vector<float>(group.logits, group.logits + group.count * group.stride));
    });
  }

  Status Finish() override {
    if (options_.max_under_way == 1) return OkStatus();
    CHECK(!under_way_.empty());
    UnderWay& step = under_way_.front();
    for (auto& [group, logits] : step.groups) {
      group.logits = logits.data();
      CallAll(group, step.after);
    }
    under_way_.pop_front();
    running_ = !under_way_.empty();
    return OkStatus();
  }

  int64_t steps() const { return steps_; }
  int64_t most_under_way() const { return most_under_way_; }
  int64_t idle_calls() const { return idle_calls_; }
  int64_t rows() const { return rows_; }  // tokens computed in all
  // The plain function: the logits after `tokens`.
  static void LogitsOf(const std::vector<int32_t>& tokens, int64_t vocab_size, float* logits) {
    uint64_t state = 0x243F6A8885A308D3;
    for (const int32_t token : tokens) state = Mix(state ^ static_cast<uint64_t>(token + 1));
    for (int64_t v = 0; v < vocab_size; ++v) {
      const uint64_t h = Mix(state + static_cast<uint64_t>(v) * 0x9E3779B97F4A7C15);
      logits[v] = static_cast<float>(h >> 40) * 0x1p-24f * 8;  // [0, 8)
    }
  }

 private:
  struct UnderWay {
    model::UseLogits after;
    std::vector<std::pair<model::LogitGroup, std::vector<float>>> groups;
  };

  Status RunStep(const model::StepBatch& batch, FunctionRef<void(const model::LogitGroup&)> give) {
    if (steps_++ == options_.fail_at_step) {
      if (options_.fail_by_throwing) throw std::runtime_error("injected failure");
      return Internal("injected failure");
    }
    if (options_.step_seconds > 0) {
      std::this_thread::sleep_for(std::chrono::duration<double>(options_.step_seconds));
    }
    CheckShapes(batch);
    idle_work_ = options_.idle_work;
    for (size_t s = 0; s < batch.context_len.size(); ++s) WriteCache(batch, s);
    const auto rows = static_cast<int64_t>(batch.logit_rows.size());
    size_t s = 0;
    for (int64_t first = 0; first < rows; first += limits_.logit_group_rows) {
      const model::LogitGroup group{first, std::min(limits_.logit_group_rows, rows - first),
                                    logits_.data(), width()};
      for (int64_t r = first; r < first + group.count; ++r) {
        const int32_t row = batch.logit_rows[static_cast<size_t>(r)];
        while (row >= batch.query_start[s + 1]) ++s;
        ComputeLogits(batch, s, row, group.row(r));
      }
      give(group);
    }
    return OkStatus();
  }

  struct Cell {
    int32_t token = -1;
    int32_t position = -1;
  };

  int64_t width() const {
    return options_.hidden_size > 0 ? options_.hidden_size : options_.vocab_size;
  }

  static uint64_t Mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
    return x ^ (x >> 31);
  }

  void CallAll(const model::LogitGroup& group, model::UseLogits after) const {
    std::vector<std::thread> team;
    for (int w = 1; w < options_.workers; ++w) {
      team.emplace_back([&group, &after, w] { after(group, w); });
    }
    after(group, 0);
    for (std::thread& t : team) t.join();
  }

  void CheckShapes(const model::StepBatch& b) {
    const auto rows = static_cast<int64_t>(b.token_ids.size());
    const auto seqs = static_cast<int64_t>(b.context_len.size());
    CHECK(rows > 0 && rows <= limits_.max_rows);
    CHECK(seqs > 0 && seqs <= limits_.max_seqs);
    CHECK_EQ(b.positions.size(), b.token_ids.size());
    CHECK_EQ(static_cast<int64_t>(b.query_start.size()), seqs + 1);
    CHECK_EQ(b.query_start[0], 0);
    CHECK_EQ(b.query_start[seqs], rows);
    CHECK_EQ(static_cast<int64_t>(b.block_tables.size()), seqs);
    for (size_t i = 0; i < b.logit_rows.size(); ++i) {
      CHECK(b.logit_rows[i] < rows && (i == 0 || b.logit_rows[i] > b.logit_rows[i - 1]));
    }
    rows_ += rows;
  }

  Cell* CellOf(const model::StepBatch& b, size_t s, int64_t position) {
    const int64_t index = position / kv_.block_size;
    const int32_t block = b.block_tables[s][index];
    CHECK_MSG(block > 0 && block < kv_.num_blocks, "block {} at position {}", block, position);
    return &cache_[static_cast<size_t>(block * kv_.block_size + position % kv_.block_size)];
  }

  void WriteCache(const model::StepBatch& b, size_t s) {
    CHECK_LT(b.query_start[s], b.query_start[s + 1]);
    const int32_t end = b.query_start[s + 1];
    for (int32_t row = b.query_start[s]; row < end; ++row) {
      int32_t token = b.token_ids[static_cast<size_t>(row)];
      if (token < 0) token = b.sampled[static_cast<size_t>(-1 - token)];
      CHECK(token >= 0 && token < options_.vocab_size);
      const int32_t position = b.positions[static_cast<size_t>(row)];
      CHECK_EQ(position, b.context_len[s] - (end - row));
      *CellOf(b, s, position) = {token, position};
    }
  }

  void ComputeLogits(const model::StepBatch& b, size_t s, int32_t row, float* logits) {
    const int32_t position = b.positions[static_cast<size_t>(row)];
    history_.clear();
    for (int32_t p = 0; p <= position; ++p) {
      const Cell& cell = *CellOf(b, s, p);
      // A cell of another position shows as a token that nobody wrote.
      history_.push_back(cell.position == p ? cell.token : -2);
    }
    if (options_.logits) {
      options_.logits(history_, logits);
    } else {
      LogitsOf(history_, width(), logits);
    }
  }

  FakeLmOptions options_;
  model::KvOptions kv_;
  model::RunLimits limits_;
  std::vector<Cell> cache_;
  std::vector<float> logits_;
  std::vector<int32_t> history_;
  std::thread::id bound_;
  int64_t idle_work_;  // calls that are left; not while a step runs
  std::atomic<int64_t> idle_calls_{0};
  std::atomic<bool> broken_{false};
  std::atomic<bool> running_{false};
  std::deque<UnderWay> under_way_;
  std::atomic<int64_t> most_under_way_{0};
  std::atomic<int64_t> steps_{0};
  std::atomic<int64_t> rows_{0};
};

}  // namespace tiercel::engine
