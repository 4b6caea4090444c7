// The bodies of OpenAI's Responses and of Anthropic's Messages.
#include "api/body_schemas.h"
#include "api/bounds.h"

namespace tiercel::api {
namespace {

using V = ValueSchema;

// Anthropic's words.
V MessagesContent() {
  return V::Either(
      {V::String(),
       V::List(V::Object({{"type", V::String(), "text, tool_use, tool_result or thinking.", true},
                          {"text", V::String(), "Of text."},
                          {"name", V::String(), "Of tool_use: the tool."},
                          {"input", V::Map(V::Any()), "Of tool_use: its arguments."},
                          {"tool_use_id", V::String().AtMostLong(kMaxRoleBytes), "Of tool_result: the call."},
                          {"content", V::Any(), "Of tool_result: a text, or a list of texts."},
                          {"thinking", V::String(), "Of thinking."}}))
           .AtMostLong(kMaxContentParts)});
}

FieldSchemas MessagesSchemas(const ModelInfo& model, const ApiOptions& options,
                             bool needs_max_tokens) {
  constexpr std::string_view kOfChat[] = {"model", "temperature", "top_p",
                                          "top_k", "stream",      "chat_template_kwargs"};
  const FieldSchemas shared = Picked(ChatForms(model, options)[0].fields, kOfChat);
  const FieldSchemas own = {
      {"max_tokens", TokenLimitSchema(model), "The most tokens of the answer.", needs_max_tokens},
      {"messages",
       V::List(V::Object({{"role", V::OneOf({"user", "assistant", "system"}), "Whose words.", true},
                          {"content", MessagesContent(), "A text, or a list of blocks.", true}}))
           .NotEmpty()
           .AtMostLong(kMaxMessages),
       "The conversation.", true},
      {"system", ContentSchema(), "What stands before it."},
      {"tools",
       V::List(V::Object({{"type", V::OneOf({"custom"}), "The only kind."},
                          {"name", V::String(), "What calls name.", true},
                          {"description", V::String(), "What the model is told of it."},
                          {"input_schema", V::Map(V::Any()), "A JSON Schema of the arguments."}}))
           .AtMostLong(kMaxTools),
       "What the model may call."},
      {"tool_choice",
       V::Object(
           {{"type", V::OneOf({"auto", "any", "tool", "none"}), "Which tools are called.", true},
            {"name", V::String(), "Of tool."},
            {"disable_parallel_tool_use", V::Boolean(), "The first call alone is given."}}),
       "With tools."},
      {"thinking",
       V::Object({{"type", V::String(), "disabled, or any other word for a thought.", true},
                  {"budget_tokens", V::Integer().AtLeast(0), "Its most tokens."}}),
       "Whether there is a thought before the answer."},
      {"stop_sequences",
       V::List(V::String().AtMostLong(kMaxStopBytes).NotEmpty())
           .AtMostLong(static_cast<size_t>(options.max_stop_strings)),
       "Texts that end the answer."},
  };
  return Joined({own, shared});
}

}  // namespace

BodyForms ResponsesForms(const ModelInfo& model, const ApiOptions& options) {
  const V tools =
      V::List(V::Object({{"type", V::String(), "function; others are left out.", true},
                         {"name", V::String(), "What calls name."},
                         {"description", V::String(), "What the model is told of it."},
                         {"parameters", V::Map(V::Any()), "A JSON Schema of the arguments."},
                         {"strict", V::Boolean(), "Calls obey the schema."}}));
  const V format = V::Object(
      {{"type", V::OneOf({"text", "json_object", "json_schema"}), "What the answer must be.", true},
       {"name", V::String(), "Of the schema."},
       {"schema", V::Any(), "Of json_schema."},
       {"strict", V::Boolean(), kNoEffect}});
  FieldSchemas fields = {
      {"input", V::Either({V::String(), V::List(V::Map(V::Any())).NotEmpty().AtMostLong(kMaxMessages)}),
       "A text, or the items of a conversation: messages, thoughts, calls of functions and what "
       "they gave.",
       true},
      {"instructions", ContentSchema(), "What stands before it."},
      {"max_output_tokens", TokenLimitSchema(model), "The most tokens of the answer."},
      {"tools", tools, "What the model may call."},
      {"tool_choice",
       V::Either({V::OneOf({"none", "auto", "required"}),
                  V::Object({{"name", V::String(), "Of the function that must be called.", true}})}),
       "Which tools are called."},
      {"text",
       V::Object({{"format", format, "The form."},
                  {"verbosity", V::OneOf({"low", "medium", "high"}), kNoEffect}}),
       "What form the answer must have."},
      {"reasoning", V::Object({{"effort", V::String(), "none turns thought off."}}),
       "Of models that think."},
      {"previous_response_id", V::String(), "The response that this one goes on from."},
      {"store", V::Boolean().Default("true"), "Keeps it; with VLLM_ENABLE_RESPONSES_API_STORE=1."},
      {"background", V::Boolean().Default("false"), "Answers at once: ask for it by its id."},
      {"include",
       V::List(V::OneOf({"message.output_text.logprobs", "reasoning.encrypted_content",
                         "file_search_call.results", "web_search_call.results",
                         "web_search_call.action.sources", "message.input_image.image_url",
                         "computer_call_output.output.image_url", "code_interpreter_call.outputs"}))
           .AtMostLong(kMaxIncluded),
       "message.output_text.logprobs: the probability of each token; others have no effect."},
      {"top_logprobs", V::Integer(), "And those of so many likely tokens; with include."},
      {"truncation", V::OneOf({"auto", "disabled"}).Default("\"disabled\""),
       "auto: what does not fit of the conversation is cut."},
      {"service_tier", V::OneOf({"auto", "default", "flex", "scale", "priority"}), kNoEffect},
      {"max_tool_calls", V::Integer(), kNoEffect},
      {"metadata", V::Map(V::Any()), "Is repeated."},
      {"prompt_cache_key", V::String(), kNoEffect},
      {"safety_identifier", V::String(), kNoEffect},
  };
  for (const std::string_view name : {"conversation", "prompt"}) {
    fields.push_back({name, V::Nothing(), kNotOffered});
  }
  constexpr std::string_view kOfChat[] = {
      "model", "temperature", "top_p", "top_k", "min_p", "stream", "parallel_tool_calls", "user",
      "stop", "stop_token_ids", "seed", "ignore_eos", "min_tokens", "skip_special_tokens",
      "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias",
      "allowed_token_ids", "cache_salt", "priority", "structured_outputs", "thinking_token_budget",
      "chat_template_kwargs", "request_id"};
  const FieldSchemas shared = Picked(ChatForms(model, options)[0].fields, kOfChat);
  return {{"ResponsesRequest", Joined({fields, shared})}};
}

BodyForms MessagesForms(const ModelInfo& model, const ApiOptions& options) {
  return {{"AnthropicMessagesRequest", MessagesSchemas(model, options, /*needs_max_tokens=*/true)}};
}

BodyForms CountTokensForms(const ModelInfo& model, const ApiOptions& options) {
  return {
      {"AnthropicCountTokensRequest", MessagesSchemas(model, options, /*needs_max_tokens=*/false)}};
}

}  // namespace tiercel::api
