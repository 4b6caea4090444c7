#include "api/body_schemas.h"

namespace tiercel::api {
namespace {

using V = ValueSchema;

V Texts(const ApiOptions& options) {
  return V::Either(
      {V::String(), V::List(V::String())
                        .NotEmpty()
                        .AtMostLong(static_cast<size_t>(options.max_completion_prompts))});
}

FieldSchemas SharedSchemas(const ModelInfo& model, const ApiOptions& options) {
  return Joined(
      {BaseFieldSchemas(model, options),
       {{"use_activation", V::Boolean().Default(model.pooling->use_activation ? "true" : "false"),
         "Vectors get the length 1; labels become probabilities."},
        {"padding", V::OneOf({"do_not_pad"}), "The only kind."},
        {"normalize", V::Nothing(), "Refused: a former name of use_activation."},
        {"user", V::Any(), "Understood, without effect here."},
        {"mm_processor_kwargs", V::Any(), "Understood, without effect here."},
        {"media_io_kwargs", V::Any(), "Understood, without effect here."}}});
}

// `own`: of one endpoint.
BodyForms EncodingForms(std::string_view of_texts, std::string_view of_chat, FieldSchemas own,
                        const ModelInfo& model, const ApiOptions& options) {
  const FieldSchemas shared = Joined(
      {std::move(own),
       {{"encoding_format", V::OneOf({"float", "base64"}).Default("\"float\""), "Of the values."},
        {"embed_dtype", V::OneOf({"float32", "float16", "bfloat16"}).Default("\"float32\""),
         "Of base64."},
        {"endianness", V::OneOf({"native", "little", "big"}).Default("\"native\""), "Of base64."}},
       SharedSchemas(model, options)});
  const FieldSchemas texts = {
      {"input", PromptsSchema(model, options), "What is read.", true},
      {"add_special_tokens", V::Boolean().Default("true"), "Adds the tokenizer's special tokens."}};
  FieldSchemas chat = ChatInputSchemas(options);
  for (FieldSchema& field : chat) {
    if (field.name == "add_generation_prompt") field.value = V::Boolean().Default("false");
  }
  chat.push_back(
      {"add_special_tokens", V::Boolean().Default("false"), "Adds them to the template's."});
  // The template's own inputs take the place of those that all others have.
  FieldSchemas of_a_chat = chat;
  for (const FieldSchema& field : shared) {
    if (field.name != "mm_processor_kwargs" && field.name != "media_io_kwargs")
      of_a_chat.push_back(field);
  }
  return {{of_texts, Joined({texts, shared})}, {of_chat, std::move(of_a_chat)}};
}

FieldSchemas ComparingSchemas(const ModelInfo& model, const ApiOptions& options) {
  return Joined({{{"max_tokens_per_query", V::Integer().AtMost(0), "Use truncate_prompt_tokens."},
                  {"max_tokens_per_doc", V::Integer().AtMost(0), "Use truncate_prompt_tokens."}},
                 SharedSchemas(model, options)});
}

}  // namespace

BodyForms EmbeddingForms(const ModelInfo& model, const ApiOptions& options) {
  const PoolingInfo& info = *model.pooling;
  const V dimensions = V::Integer().AtLeast(1).AtMost(info.hidden_size);
  return EncodingForms("EmbeddingCompletionRequest", "EmbeddingChatRequest",
                       {{"dimensions", info.is_matryoshka ? dimensions : V::Nothing(),
                         "Of vectors; where the model was trained for it."}},
                       model, options);
}

BodyForms PoolingForms(const ModelInfo& model, const ApiOptions& options) {
  const V task = model.pooling->classifies
                     ? V::OneOf({"classify", "token_classify"}).Default("\"classify\"")
                     : V::OneOf({"embed", "token_embed"}).Default("\"embed\"");
  return EncodingForms("PoolingCompletionRequest", "PoolingChatRequest",
                       {{"task", task, "Of the last token, or of every one."},
                        {"dimensions", V::Nothing(), "Of /v1/embeddings alone."}},
                       model, options);
}

BodyForms ClassifyForms(const ModelInfo& model, const ApiOptions& options) {
  return EncodingForms("ClassificationCompletionRequest", "ClassificationChatRequest",
                       {{"dimensions", V::Nothing(), "Of /v1/embeddings alone."}}, model, options);
}

BodyForms ScoreForms(const ModelInfo& model, const ApiOptions& options) {
  constexpr struct {
    std::string_view form, first, second;
  } kSpellings[] = {{"ScoreTextRequest", "text_1", "text_2"},
                    {"ScoreDataRequest", "data_1", "data_2"},
                    {"ScoreQueriesDocumentsRequest", "queries", "documents"},
                    {"ScoreQueriesItemsRequest", "queries", "items"}};
  BodyForms forms;
  for (const auto& [form, first, second] : kSpellings) {
    forms.push_back(
        {form,
         Joined({{{first, Texts(options), "One text, or as many as there are of the others.", true},
                  {second, Texts(options), "What they are compared with.", true}},
                 ComparingSchemas(model, options)})});
  }
  return forms;
}

BodyForms RerankForms(const ModelInfo& model, const ApiOptions& options) {
  return {{"RerankRequest",
           Joined({{{"query", V::String(), "What the documents are compared with.", true},
                    {"documents", Texts(options), "What is put in order.", true},
                    {"top_n", V::Integer().Default("0"), "Gives so many of the best; 0: all."}},
                   ComparingSchemas(model, options)})}};
}

}  // namespace tiercel::api
