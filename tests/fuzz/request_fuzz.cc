// Any bytes as the body of each endpoint: parsed, rendered and tokenized; never a crash, and what is
// refused is the client's fault, told in few words.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/endpoints.h"
#include "api/text_bodies.h"
#include "base/check.h"

namespace tiercel {
namespace {

api::ModelInfo TinyModel() {
  auto tokenizer = text::Tokenizer::Load(TIERCEL_TEST_DATA "/tiny-qwen3");
  CHECK_MSG(tokenizer.has_value(), "{}", tokenizer.error().message());
  auto source = text::ChatTemplate::FindSource(TIERCEL_TEST_DATA "/tiny-qwen3");
  CHECK_MSG(source.has_value(), "{}", source.error().message());
  api::ModelInfo model;
  model.template_pool = std::make_shared<text::TemplatePool>(
      text::TemplatePool::Options{.executable = TIERCEL_TEMPLATE_WORKER});
  auto chat_template = text::ChatTemplate::Compile(model.template_pool, *source);
  CHECK_MSG(chat_template.has_value(), "{}", chat_template.error().message());
  model.served_names = {"tiny"};
  model.max_model_len = 512;
  model.vocab_size = (*tokenizer)->vocab_size();
  model.tokenizer = *tokenizer;
  model.grammars = std::make_shared<text::GrammarCompiler>(
      model.tokenizer, model.vocab_size, std::vector<int32_t>{*model.tokenizer->eos()});
  model.chat_template = *chat_template;
  return model;
}

// The same one, if it gave vectors or labels.
api::ModelInfo Pooling(api::ModelInfo model, bool classifies) {
  model.pooling.emplace();
  model.pooling->classifies = classifies;
  model.pooling->hidden_size = 64;
  model.pooling->is_matryoshka = true;
  model.pooling->labels.resize(classifies ? 1 : 0);
  return model;
}

void Check(const api::ApiError& error) {
  CHECK_MSG(error.http_status == 400 || error.http_status == 404, "{}: {}", error.http_status,
            error.message);
  CHECK_LT(error.message.size(), size_t{20'000});
}

void Check(const api::Result<api::PreparedRequest>& prepared, const api::ModelInfo& model) {
  if (!prepared) {
    Check(prepared.error());
    return;
  }
  CHECK_EQ(prepared->requests.size(), prepared->plan.prompts.size());
  for (const engine::Request& request : prepared->requests) {
    CHECK(!request.prompt.empty());
    const auto size = static_cast<int64_t>(request.prompt.size());
    CHECK_LE(size + (request.pooling == nullptr ? 1 : 0), model.max_model_len);
    CHECK((request.pooling == nullptr) != (request.params == nullptr));
  }
}

}  // namespace
}  // namespace tiercel

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tiercel;
  static const api::ModelInfo model = TinyModel();
  static const api::ModelInfo embedding = Pooling(model, false), classifier = Pooling(model, true);
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  api::ApiOptions options;
  // One template for all: compiling the request's own is the template fuzzer's part.
  options.auto_tool_choice = true;
  options.reasoning = api::ReasoningFormat::kQwen3;
  for (const api::Endpoint& endpoint : api::Endpoints()) {
    for (const api::ModelInfo* m : {&model, &embedding, &classifier}) {
      if (!api::CheckOffered(endpoint, *m)) Check(endpoint.prepare(body, "", *m, options), *m);
    }
  }
  if (const auto tokens = api::TokenizeBody(body, model, options); !tokens) Check(tokens.error());
  if (const auto text = api::DetokenizeBody(body, model); !text) Check(text.error());
  return 0;
}
