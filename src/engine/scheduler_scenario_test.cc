// Runs the scenario files of tests/scenarios: each line does one thing or says what must be.
//
//   scenario NAME                      starts a new one
//   options KEY=VALUE …                of the scheduler; async=1: tokens come back one step late; under_way=N: N - 1 later
//   machine fixed_ms=N row_us=N [target_itl_ms=]
//                                      before options: a step's time is known, so steps may be cut
//   add NAME prompt=N [max_tokens= priority= n= salt= prompt_logprobs= seed=]
//                                      a request; prompts of one seed begin alike. Samples beyond
//                                      the first are called NAME.1, NAME.2, …
//   step NAME:START+COUNT[*] …         the next plan, in order; * means it samples
//   abort NAME                         with all its samples
//   expect KEY=VALUE …                 running, waiting, free (blocks), preempted (in all), why (the
//                                      first one waits: nothing, budget, sequences, blocks, preempted)
// Sampled tokens are made up; a sequence that reaches its limit ends.
#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "engine/made_up_machine.h"
#include "engine/scheduler.h"

namespace tiercel::engine {
namespace {

using Values = std::map<std::string, std::string>;

Values ParseValues(std::istringstream* line) {
  Values values;
  for (std::string word; *line >> word;) {
    const size_t equals = word.find('=');
    EXPECT_NE(equals, std::string::npos) << word;
    if (equals != std::string::npos) values[word.substr(0, equals)] = word.substr(equals + 1);
  }
  return values;
}

// Takes the value out, so that what is left over is a misspelled key.
int64_t Take(Values* values, const std::string& key, int64_t otherwise) {
  const auto node = values->extract(key);
  return node.empty() ? otherwise : std::stoll(node.mapped());
}

class ScenarioRun {
 public:
  void Options(Values values) {
    SchedulerOptions o;
    o.block_size = static_cast<int>(Take(&values, "block_size", 4));
    o.num_blocks = Take(&values, "num_blocks", 30);
    o.max_length = Take(&values, "max_length", (o.num_blocks - 1) * o.block_size);
    o.max_num_batched_tokens = Take(&values, "max_num_batched_tokens", 32);
    o.max_num_seqs = Take(&values, "max_num_seqs", 16);
    o.enable_prefix_caching = Take(&values, "prefix_caching", 1);
    o.enable_chunked_prefill = Take(&values, "chunked", 1);
    o.long_prefill_token_threshold = Take(&values, "long_prefill_token_threshold", 0);
    o.by_priority = Take(&values, "priority", 0);
    o.steps_under_way = static_cast<int>(Take(&values, "under_way", 1));
    most_in_flight_ = static_cast<size_t>(o.steps_under_way - 1 + Take(&values, "async", 0));
    EXPECT_TRUE(values.empty()) << "unknown option " << values.begin()->first;
    o.target_itl = target_itl_;
    scheduler_ = std::make_unique<Scheduler>(o, PrefixHasher(1, 2), cost_.get());
  }

  void RunOn(Values values) {
    machine_ = LinearMachine(static_cast<double>(Take(&values, "fixed_ms", 0)),
                             static_cast<double>(Take(&values, "row_us", 0)));
    target_itl_ = 1e-3 * static_cast<double>(Take(&values, "target_itl_ms", 0));
    EXPECT_TRUE(values.empty()) << "unknown key " << values.begin()->first;
    cost_ = std::make_unique<StepCost>();
    Train(machine_, cost_.get());
  }

  void Add(const std::string& name, Values values) {
    auto request = std::make_unique<RequestState>();
    const int64_t seed = Take(&values, "seed", 0);
    const int64_t length = Take(&values, "prompt", 1);
    for (int64_t i = 0; i < length; ++i) {
      request->prompt.push_back(static_cast<int32_t>(1000 * seed + i));
    }
    auto params = std::make_shared<sampling::SamplingParams>();
    params->max_tokens = Take(&values, "max_tokens", 1000);
    params->n = static_cast<int>(Take(&values, "n", 1));
    if (const int64_t top = Take(&values, "prompt_logprobs", -1); top >= 0) {
      params->prompt_logprobs = static_cast<int>(top);
    }
    request->params = params;
    request->priority = static_cast<int>(Take(&values, "priority", 0));
    if (const auto salt = values.extract("salt"); !salt.empty()) request->cache_salt = salt.mapped();
    EXPECT_TRUE(values.empty()) << "unknown key " << values.begin()->first;
    request->arrival = static_cast<int64_t>(requests_.size());
    for (int i = 0; i < params->n; ++i) {
      request->sequences.push_back(std::make_unique<Sequence>());
      Sequence* const sequence = request->sequences.back().get();
      sequence->request = request.get();
      sequence->index = i;
      names_[sequence] = i == 0 ? name : name + "." + std::to_string(i);
    }
    scheduler_->Add(request.get());
    requests_[name] = std::move(request);
  }

  std::string Step() {
    StepPlan plan;
    scheduler_->Schedule(&plan);
    preempted_ += plan.num_preempted;
    why_ = plan.waiting;
    std::string text;
    for (const PlanEntry& entry : plan.entries) {
      if (!text.empty()) text += " ";
      text += names_[entry.sequence] + ":" + std::to_string(entry.start) + "+" +
              std::to_string(entry.num_tokens) + (entry.samples ? "*" : "");
    }
    const bool empty = plan.entries.empty();
    if (!empty) in_flight_.push_back(std::move(plan));
    if (in_flight_.size() > (empty ? 0 : most_in_flight_)) {
      Deliver(in_flight_.front());
      in_flight_.pop_front();
    }
    return text;
  }

  void Abort(const std::string& name) {
    for (const auto& sequence : requests_.at(name)->sequences) scheduler_->Finish(sequence.get());
  }

  std::string Value(const std::string& key) const {
    if (key == "why") {
      constexpr const char* kNames[] = {"nothing", "budget", "sequences", "blocks", "preempted"};
      return kNames[static_cast<int>(why_)];
    }
    return std::to_string(Number(key));
  }

 private:
  int64_t Number(const std::string& key) const {
    if (key == "running") return scheduler_->num_running();
    if (key == "waiting") return scheduler_->num_waiting();
    if (key == "free") return scheduler_->pool().num_free();
    if (key == "preempted") return preempted_;
    ADD_FAILURE() << "unknown value " << key;
    return -1;
  }

  void Deliver(const StepPlan& plan) {
    if (cost_ != nullptr && plan.work.rows > 0) cost_->Record(plan.work, machine_(plan.work));
    for (const PlanEntry& entry : plan.entries) {
      Sequence* const s = entry.sequence;
      if (!entry.samples || s->status == SequenceStatus::kFinished) continue;
      scheduler_->AppendToken(s, 500000 + next_token_++);
      const bool ended = static_cast<int64_t>(s->output.size()) >= s->request->params->max_tokens ||
                         s->num_known() >= scheduler_->options().max_length;
      if (ended) scheduler_->Finish(s);
    }
  }

  std::unique_ptr<StepCost> cost_;  // null: nothing is known of steps' times
  Machine machine_;
  double target_itl_ = 0;
  std::unique_ptr<Scheduler> scheduler_;
  std::map<std::string, std::unique_ptr<RequestState>> requests_;
  std::map<const Sequence*, std::string> names_;
  std::deque<StepPlan> in_flight_;
  size_t most_in_flight_ = 0;
  int64_t preempted_ = 0;
  Waiting why_ = Waiting::kNothing;
  int32_t next_token_ = 0;
};

void RunFile(const std::filesystem::path& path, int* num_scenarios) {
  std::ifstream file(path);
  std::unique_ptr<ScenarioRun> run;
  std::string text, name;
  for (int number = 1; std::getline(file, text); ++number) {
    SCOPED_TRACE(path.filename().string() + ":" + std::to_string(number) + ": " + name);
    std::istringstream line(text);
    std::string command, word;
    if (!(line >> command) || command[0] == '#') continue;
    if (command == "scenario") {
      std::getline(line, name);
      run = std::make_unique<ScenarioRun>();
      ++*num_scenarios;
    } else if (command == "options") {
      run->Options(ParseValues(&line));
    } else if (command == "machine") {
      run->RunOn(ParseValues(&line));
    } else if (command == "add") {
      line >> word;
      run->Add(word, ParseValues(&line));
    } else if (command == "abort") {
      line >> word;
      run->Abort(word);
    } else if (command == "step") {
      std::string expected;
      while (line >> word) expected += (expected.empty() ? "" : " ") + word;
      EXPECT_EQ(run->Step(), expected);
    } else if (command == "expect") {
      for (const auto& [key, value] : ParseValues(&line)) {
        EXPECT_EQ(run->Value(key), value) << key;
      }
    } else {
      ADD_FAILURE() << "unknown command " << command;
    }
  }
}

TEST(SchedulerScenarioTest, EveryFileRunsAsWritten) {
  int num_scenarios = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TIERCEL_SCENARIOS)) {
    if (entry.path().extension() == ".scenario") RunFile(entry.path(), &num_scenarios);
  }
  EXPECT_GE(num_scenarios, 20);
}

}  // namespace
}  // namespace tiercel::engine
