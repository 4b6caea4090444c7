// Answer: what has come of one request so far, as the writers of the protocols see it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "api/output_assembler.h"
#include "api/response_plan.h"
#include "engine/engine.h"

namespace tiercel::api {

struct PromptResult {
  bool known = false;  // the prompt has been computed
  engine::PromptInfo info;
};

// Tokens of one choice, or of a whole answer.
struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0;
  int64_t cached_tokens = 0;     // of the prompt
  int64_t reasoning_tokens = 0;  // of the completion
};

struct Answer {
  explicit Answer(ResponsePlan response_plan);

  int num_choices() const { return static_cast<int>(choices.size()); }
  int PromptOf(int choice) const { return choice / plan.n; }
  const PromptResult& prompt(int choice) const {
    return prompts[static_cast<size_t>(PromptOf(choice))];
  }
  const PromptPlan& prompt_plan(int choice) const {
    return plan.prompts[static_cast<size_t>(PromptOf(choice))];
  }
  OutputAssembler& choice(int index) const { return *choices[static_cast<size_t>(index)]; }
  // The prompt's token ids where the answer shows them, else null.
  const std::vector<int32_t>* ShownPromptIds(int choice) const;
  bool finished() const;

  Usage WholeUsage() const;
  Usage UsageOf(int choice) const;

  const ResponsePlan plan;
  std::vector<std::unique_ptr<OutputAssembler>> choices;  // [prompt · n + sample]
  std::vector<PromptResult> prompts;
};

}  // namespace tiercel::api
