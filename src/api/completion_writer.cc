// The answer to POST /v1/completions.
#include "api/json_writer.h"
#include "api/openai_writer.h"

namespace tiercel::api {

namespace {

class CompletionWriter final : public OpenAiWriter {
 public:
  explicit CompletionWriter(const Answer& answer)
      : OpenAiWriter(answer, "text_completion", "text_completion") {}

  void AddPrompt(int choice) override {
    if (!plan().echo_logprobs) return;
    const auto prompt = static_cast<size_t>(answer_.PromptOf(choice));
    const std::vector<int32_t>& ids = plan().prompts[prompt].token_ids;
    const auto& logprobs = answer_.prompts[prompt].info.prompt_logprobs;
    LogprobsWriter& writer = tokens(choice).logprobs;
    for (size_t i = 0; i < ids.size(); ++i) {
      const bool is_last = i + 1 == ids.size();
      if (i < logprobs.size()) {
        writer.AddPrompt(ids[i], logprobs[i], is_last);
      } else {
        writer.AddPrompt(ids[i], {}, is_last);
      }
    }
  }

  void AppendStart(std::string*) override {}

  void AppendChunk(int choice, bool is_first, std::string* out) override {
    out->append("data: ");
    AppendChunkHead(out);
    out->push_back('{');
    AppendText(choice, out);
    if (plan().return_token_ids) {
      // With the first chunk alone.
      out->append(R"(,"prompt_token_ids":)");
      AppendIdsOrNull(is_first ? answer_.ShownPromptIds(choice) : nullptr, out);
    }
    TakeTokenIds(choice, out);
    out->append(R"(}],"usage":)");
    if (plan().continuous_usage) {
      AppendUsage(answer_.UsageOf(choice), out);
    } else {
      out->append("null");
    }
    out->append("}\n\n");
  }

 private:
  void AppendText(int choice, std::string* out) {
    out->append(R"("index":)");
    AppendJsonInt(out, choice);
    out->append(R"(,"text":)");
    AppendJsonString(out, answer_.choice(choice).Take().content);
    out->append(R"(,"logprobs":)");
    tokens(choice).logprobs.TakeTo(out);
    AppendFinish(choice, true, out);
  }

  void AppendChoice(int choice, std::string* out) override {
    AppendText(choice, out);
    TakeTokenIds(choice, out);
    out->append(R"(,"prompt_logprobs":)");
    if (plan().prompt_logprobs) {
      AppendPromptLogprobs(out, answer_.prompt(choice).info.prompt_logprobs, plan());
    } else {
      out->append("null");
    }
    out->append(R"(,"prompt_token_ids":)");
    AppendIdsOrNull(answer_.ShownPromptIds(choice), out);
  }

  void AppendBodyMembers(std::string*) override {}
};

}  // namespace

std::unique_ptr<AnswerWriter> NewCompletionWriter(const Answer& answer) {
  return std::make_unique<CompletionWriter>(answer);
}

}  // namespace tiercel::api
