#include "server/loaded_model.h"

#include "api/names.h"
#include "api/prepare_pooling.h"
#include "api/render_chat.h"

namespace tiercel::server {

std::shared_ptr<LoadedModel> MakeLoadedModel(ServingModel model,
                                             std::vector<std::string> served_names,
                                             const api::ApiOptions& options) {
  auto loaded = std::make_shared<LoadedModel>();
  loaded->engine = std::move(model.engine);
  api::ModelInfo& info = loaded->info;
  info.served_names = std::move(served_names);
  info.root = std::move(model.root);
  info.max_model_len = loaded->engine->options().max_model_len;
  info.vocab_size = model.vocab_size;
  info.created = api::UnixSeconds();
  info.grammars = std::make_shared<text::GrammarCompiler>(
      model.tokenizer, model.vocab_size, loaded->engine->options().eos_token_ids);
  info.tokenizer = std::move(model.tokenizer);
  info.chat_template = std::move(model.chat_template);
  info.template_pool = std::move(model.template_pool);
  info.pooling = std::move(model.pooling);
  // Only a classifier reads pairs as one prompt.
  if (info.pooling && info.pooling->classifies) {
    info.pooling->has_score_template = api::HasScoreTemplate(info);
  }
  loaded->tokenizer_info_json = std::move(model.tokenizer_info_json);
  loaded->api = options;
  loaded->api.template_takes_parts =
      options.content_format == api::ContentFormat::kAuto && api::TakesParts(info);
  loaded->api.sampling_defaults = std::move(model.sampling_defaults);
  return loaded;
}

}  // namespace tiercel::server
