#include "api/answer.h"

#include <algorithm>
#include <utility>

namespace tiercel::api {

Answer::Answer(ResponsePlan response_plan)
    : plan(std::move(response_plan)), prompts(plan.prompts.size()) {
  const size_t count = plan.prompts.size() * static_cast<size_t>(plan.n);
  choices.reserve(count);
  for (const PromptPlan& prompt : plan.prompts) {
    for (int i = 0; i < plan.n; ++i) choices.push_back(std::make_unique<OutputAssembler>(plan, prompt));
  }
}

const std::vector<int32_t>* Answer::ShownPromptIds(int choice) const {
  if (!plan.return_token_ids) return nullptr;
  return &plan.prompts[static_cast<size_t>(PromptOf(choice))].token_ids;
}

bool Answer::finished() const {
  return std::all_of(choices.begin(), choices.end(),
                     [](const auto& choice) { return choice->finish().has_value(); });
}

Usage Answer::WholeUsage() const {
  Usage usage;
  for (const PromptPlan& prompt : plan.prompts) usage.prompt_tokens += prompt.num_tokens;
  for (const auto& choice : choices) {
    usage.completion_tokens += choice->completion_tokens();
    usage.reasoning_tokens += choice->reasoning_tokens();
  }
  for (const PromptResult& prompt : prompts) usage.cached_tokens += prompt.info.cached_tokens;
  return usage;
}

Usage Answer::UsageOf(int index) const {
  return {.prompt_tokens = plan.prompts[static_cast<size_t>(PromptOf(index))].num_tokens,
          .completion_tokens = choice(index).completion_tokens(),
          .cached_tokens = prompt(index).info.cached_tokens,
          .reasoning_tokens = choice(index).reasoning_tokens()};
}

}  // namespace tiercel::api
