#include "api/body_schemas.h"

#include <algorithm>
#include <iterator>

#include "api/bounds.h"
#include "sampling/repetition.h"

namespace tiercel::api {
namespace {

using V = ValueSchema;

template <typename T, typename U>
std::string Or(const std::optional<T>& value, U otherwise) {
  return value ? fmt::format("{}", *value) : fmt::format("{}", otherwise);
}

V TokenId(const ModelInfo& model) { return V::Integer().AtLeast(0).AtMost(model.vocab_size - 1); }

V Logprobs(const ApiOptions& options) {
  return options.max_logprobs < 0 ? V::Integer().AtLeast(-1)
                                  : V::Integer().AtLeast(0).AtMost(options.max_logprobs);
}

V Conversation() {
  return V::List(V::Object({
                     {"role", V::String().AtMostLong(kMaxRoleBytes), "system, developer, user, assistant or tool.",
                      true},
                     {"content", ContentSchema(), "A text, or a list of texts in parts."},
                     {"name", V::String().AtMostLong(kMaxRoleBytes), "For templates that show it."},
                     {"tool_calls", V::List(V::Any()).AtMostLong(kMaxTools), "Of the assistant."},
                     {"tool_call_id", V::String().AtMostLong(kMaxRoleBytes), "Of a tool's result."},
                     {"reasoning", V::String(), "What the assistant thought."},
                     {"reasoning_content", V::String(), "An older name of reasoning."},
                 }))
      .NotEmpty()
      .AtMostLong(kMaxMessages);
}

V Tools() {
  return V::List(
             V::Object(
                 {{"type", V::OneOf({"function"}), "The only kind."},
                  {"function",
                   V::Object({{"name", V::String(), "What calls name.", true},
                              {"description", V::String(), "What the model is told of it."},
                              {"parameters", V::Map(V::Any()), "A JSON Schema of the arguments."},
                              {"strict", V::Boolean(), "Calls obey the schema."}}),
                   "The function.", true}}))
      .NotEmpty()
      .AtMostLong(kMaxTools);
}

// Of the model's own defaults where it, or the command line, has some.
FieldSchemas DistributionSchemas(const SamplingDefaults& d, const ApiOptions& options) {
  return {
      {"temperature", V::Number().AtLeast(0).AtMost(2).Default(Or(d.temperature, 1)),
       "0: always the most likely token."},
      {"top_p", V::Number().Above(0).AtMost(1).Default(Or(d.top_p, 1)),
       "Samples from the most likely tokens of this probability together."},
      {"top_k", V::Integer().AtLeast(-1).Default(Or(d.top_k, 0)),
       "Samples from so many of the most likely tokens; 0 and -1: from all."},
      {"min_p", V::Number().AtLeast(0).AtMost(1).Default(Or(d.min_p, 0)),
       "Leaves out tokens less likely than this share of the most likely one."},
      {"repetition_penalty", V::Number().Above(0).Default(Or(d.repetition_penalty, 1)),
       "Above 1: against tokens of the prompt and of the answer."},
      {"presence_penalty", V::Number().AtLeast(-2).AtMost(2).Default(Or(d.presence_penalty, 0)),
       "Against tokens that the answer has."},
      {"frequency_penalty", V::Number().AtLeast(-2).AtMost(2).Default(Or(d.frequency_penalty, 0)),
       "Against them for each time that it has them."},
      {"n", V::Integer().AtLeast(1).AtMost(options.max_n).Default("1"), "Answers for each prompt."},
      {"seed", V::Integer(), "The same seed gives the same answer; -1: none."},
      {"use_beam_search", V::Boolean().Default("false"),
       "The n most likely answers, instead of samples."},
      {"length_penalty", V::Number().Default("1"), "Of beam search: above 1 for longer answers."},
  };
}

FieldSchemas EndSchemas(const ModelInfo& model, const ApiOptions& options) {
  const V stop = V::String().AtMostLong(kMaxStopBytes);
  return {
      {"min_tokens", V::Integer().AtLeast(0).Default("0"),
       "Nothing ends an answer before so many tokens."},
      {"stop",
       V::Either(
           {stop,
            V::List(stop.NotEmpty()).AtMostLong(static_cast<size_t>(options.max_stop_strings))}),
       "Texts that end an answer."},
      {"stop_token_ids", V::List(TokenId(model)).AtMostLong(kMaxStopTokens), "Tokens that end it."},
      {"repetition_detection",
       V::Object({{"max_pattern_size", V::Integer().AtLeast(0).AtMost(sampling::kMaxPatternSize),
                   "The longest pattern, in tokens; 0: off."},
                  {"min_pattern_size", V::Integer().AtLeast(0), "The shortest one."},
                  {"min_count", V::Integer().AtLeast(0), "How often it stands there: 2 or more."}}),
       "An answer that ends with a pattern so often ends there."},
      {"include_stop_str_in_output", V::Boolean().Default("false"), "Shows what has ended it."},
      {"ignore_eos", V::Boolean().Default("false"), "The end of sequence does not end it."},
      {"skip_special_tokens", V::Boolean().Default("true"),
       "Special tokens are no part of the text."},
  };
}

FieldSchemas TokenRuleSchemas(const ModelInfo& model) {
  return {
      {"logit_bias", V::Map(V::Number()).AtMostLong(kMaxLogitBias),
       "Added to the logits of tokens, named by their ids: -100 to 100."},
      {"allowed_token_ids", V::List(TokenId(model)).NotEmpty().AtMostLong(kMaxAllowedTokens),
       "Only these are generated."},
      {"bad_words",
       V::List(V::String().NotEmpty().AtMostLong(kMaxBadWordsBytes)).AtMostLong(kMaxBadWords),
       "Texts that are not generated."},
  };
}

FieldSchemas ConstraintSchemas(const ApiOptions& options) {
  const bool thinks = options.reasoning != ReasoningFormat::kNone;
  return {
      {"response_format",
       V::Object(
           {{"type", V::OneOf({"text", "json_object", "json_schema", "structural_tag"}),
             "What the answer must be.", true},
            {"json_schema", V::Object({{"schema", V::Any(), "A JSON Schema, or its text.", true}}),
             "Of json_schema."}}),
       "What form an answer must have; structural_tag has members of its own."},
      {"structured_outputs",
       V::Object({{"json", V::Any(), "A JSON Schema, or its text."},
                  {"json_object", V::Boolean(), "Any JSON object."},
                  {"regex", V::String().NotEmpty(), "A regular expression of the whole answer."},
                  {"choice", V::List(V::String()).NotEmpty(), "One of these texts."},
                  {"grammar", V::String().NotEmpty(), "A grammar: EBNF, GBNF or Lark."},
                  {"structural_tag", V::Any(), "Schemas within tags, or their text."},
                  {"disable_any_whitespace", V::Boolean(), "No blanks between the parts of JSON."},
                  {"disable_additional_properties", V::Boolean(),
                   "No members that a schema does not name."},
                  {"whitespace_pattern", V::String(), "The blanks between the parts of JSON."}}),
       "The same in other words: one of json, json_object, regex, choice, grammar and "
       "structural_tag."},
      {"thinking_token_budget", thinks ? V::Integer().AtLeast(0) : V::Nothing(),
       "The most tokens of thought; with --reasoning-parser."},
  };
}

FieldSchemas AnswerSchemas(const ApiOptions& options) {
  return {
      {"stream", V::Boolean().Default("false"), "Answers piece by piece, as server-sent events."},
      {"stream_options",
       V::Object({{"include_usage", V::Boolean(), "A last piece with the numbers of tokens."},
                  {"continuous_usage_stats", V::Boolean(), "Each piece has them."}}),
       "With stream alone."},
      {"stream_interval",
       V::Integer().AtLeast(1).Default(fmt::format("{}", options.stream_interval)),
       "Tokens of a piece, at least."},
      {"prompt_logprobs", Logprobs(options),
       "So many likely tokens for each token of the prompt; not with stream."},
      {"return_token_ids", V::Boolean().Default("false"), "Gives the ids of the tokens, too."},
      {"return_tokens_as_token_ids",
       V::Boolean().Default(options.return_tokens_as_token_ids ? "true" : "false"),
       "Shows tokens of logprobs as token_id:N."},
  };
}

FieldSchemas UnofferedSchemas() {
  FieldSchemas fields = {{"user", V::String(), kNoEffect},
                         {"spaces_between_special_tokens", V::Boolean(), kNoEffect},
                         {"vllm_xargs", V::Map(V::Any()), kNoEffect}};
  for (const std::string_view name :
       {"best_of", "session_id", "metadata", "store", "service_tier", "guided_json", "guided_regex",
        "guided_choice", "guided_grammar"}) {
    fields.push_back({name, V::Any(), kNoEffect});
  }
  for (const std::string_view name :
       {"watermarking", "logprob_token_ids", "kv_transfer_params", "ec_transfer_params"}) {
    fields.push_back({name, V::Nothing(), kNotOffered});
  }
  return fields;
}

FieldSchemas GenerationSchemas(const ModelInfo& model, const ApiOptions& options) {
  return Joined({DistributionSchemas(options.sampling_defaults, options),
                 EndSchemas(model, options), TokenRuleSchemas(model), ConstraintSchemas(options),
                 AnswerSchemas(options), BaseFieldSchemas(model, options), UnofferedSchemas()});
}

FieldSchemas ChatOnlySchemas(const ModelInfo& model, const ApiOptions& options) {
  return {
      {"max_tokens", TokenLimitSchema(model),
       "The most tokens of an answer; what there is room for where it is left out."},
      {"max_completion_tokens", TokenLimitSchema(model), "A newer name of max_tokens."},
      {"logprobs", V::Boolean().Default("false"), "Gives the probability of each token."},
      {"top_logprobs", Logprobs(options), "And those of so many likely tokens; with logprobs."},
      {"tool_choice",
       V::Either({V::OneOf({"none", "auto", "required"}),
                  V::Object({{"function", V::Object({{"name", V::String(), "Of the tool.", true}}),
                              "The tool that must be called.", true}})}),
       "Which tools are called; auto needs --enable-auto-tool-choice."},
      {"parallel_tool_calls", V::Boolean().Default("true"),
       "false: the first call alone is given."},
      {"include_reasoning", V::Boolean().Default("true"), "Shows the thought."},
      {"echo", V::Boolean().Default("false"),
       "An answer that goes on with the last message begins with it."},
      {"add_special_tokens", V::Boolean().Default("false"),
       "Adds the tokenizer's special tokens to the template's."},
      {"function_call", V::Any(), kNoEffect},
      {"functions", V::Any(), kNoEffect},
  };
}

FieldSchemas CompletionSchemas(const ModelInfo& model, const ApiOptions& options) {
  return Joined({{{"prompt", PromptsSchema(model, options), "What the answer goes on with.", true},
                  {"max_tokens", V::Integer().AtLeast(0).AtMost(model.max_model_len).Default("16"),
                   "The most tokens of an answer; 0 with echo alone."},
                  {"logprobs", Logprobs(options), "So many likely tokens for each token."},
                  {"echo", V::Boolean().Default("false"), "The answer begins with the prompt."},
                  {"add_special_tokens", V::Boolean().Default("true"),
                   "Adds the tokenizer's special tokens."},
                  {"prompt_embeds", V::Nothing(), kNotOffered},
                  {"suffix", V::Nothing(), kNotOffered}},
                 GenerationSchemas(model, options)});
}

}  // namespace

FieldSchemas Joined(std::initializer_list<FieldSchemas> pieces) {
  FieldSchemas all;
  for (const FieldSchemas& piece : pieces) all.insert(all.end(), piece.begin(), piece.end());
  return all;
}

FieldSchemas Picked(const FieldSchemas& fields, std::span<const std::string_view> names) {
  FieldSchemas picked;
  std::copy_if(fields.begin(), fields.end(), std::back_inserter(picked),
               [&](const FieldSchema& field) {
                 return std::find(names.begin(), names.end(), field.name) != names.end();
               });
  return picked;
}

ValueSchema TokenLimitSchema(const ModelInfo& model) {
  return V::Integer().AtLeast(1).AtMost(model.max_model_len);
}

ValueSchema ContentSchema() {
  return V::Either(
      {V::String(),
       V::List(
           V::Either({V::String(), V::Object({{"type", V::String(), "text alone: no images, no sound.", true},
                                         {"text", V::String(), "What it says."}})}))
           .AtMostLong(kMaxContentParts)});
}

FieldSchemas BaseFieldSchemas(const ModelInfo& model, const ApiOptions& options) {
  return {
      {"model", V::String(), kModelMeaning},
      {"truncate_prompt_tokens", V::Integer().AtLeast(-1).AtMost(model.max_model_len),
       "Keeps so many tokens of a prompt; -1: as many as there is room for."},
      {"truncation_side", V::OneOf({"left", "right"}).Default("\"left\""),
       "Where a prompt is cut."},
      {"priority",
       options.priority_scheduling ? V::Integer().Default("0") : V::Integer().AtLeast(0).AtMost(0),
       "The lowest runs first; with --scheduling-policy priority."},
      {"cache_salt", V::String().NotEmpty().AtMostLong(128),
       "Shares cached blocks of prompts only with those who know it; without @, / and \\."},
      {"request_id", V::String(), "Of the answer; the header X-Request-Id goes before it."},
  };
}

FieldSchemas ChatInputSchemas(const ApiOptions& options) {
  return {
      {"messages", Conversation(), "The conversation.", true},
      {"tools", Tools(), "What the model may call."},
      {"documents", V::List(V::Any()).AtMostLong(kMaxTools), "For templates that show them."},
      {"chat_template_kwargs", V::Map(V::Any()).AtMostLong(kMaxTemplateKwargs),
       "Variables of the chat template, such as enable_thinking."},
      {"reasoning_effort", V::OneOf({"none", "minimal", "low", "medium", "high", "xhigh", "max"}),
       "none turns thought off; the others are for templates that know them."},
      {"add_generation_prompt", V::Boolean().Default("true"),
       "The prompt ends with the beginning of an answer."},
      {"continue_final_message", V::Boolean().Default("false"),
       "The answer goes on with the last message; without add_generation_prompt."},
      {"chat_template",
       options.trust_request_chat_template ? V::String().AtMostLong(kMaxTemplateBytes)
                                           : V::Nothing(),
       "A template of the request's own; with --trust-request-chat-template."},
      {"mm_processor_kwargs", V::Nothing(), kNotOffered},
      {"media_io_kwargs", V::Nothing(), kNotOffered},
  };
}

ValueSchema PromptsSchema(const ModelInfo& model, const ApiOptions& options) {
  const V ids = V::List(TokenId(model)).NotEmpty();
  return V::Either({V::String().NotEmpty(), ids,
                    V::List(V::Either({V::String().NotEmpty(), ids}))
                        .NotEmpty()
                        .AtMostLong(static_cast<size_t>(options.max_completion_prompts))});
}

BodyForms ChatForms(const ModelInfo& model, const ApiOptions& options) {
  return {
      {"ChatCompletionRequest", Joined({ChatInputSchemas(options), ChatOnlySchemas(model, options),
                                        GenerationSchemas(model, options)})}};
}

BodyForms ChatBatchForms(const ModelInfo& model, const ApiOptions& options) {
  BodyForms forms = ChatForms(model, options);
  forms[0].name = "BatchChatCompletionRequest";
  for (FieldSchema& field : forms[0].fields) {
    if (field.name == "messages") {
      field.value = V::List(Conversation())
                        .NotEmpty()
                        .AtMostLong(static_cast<size_t>(options.max_completion_prompts));
      field.meaning = "Conversations: each gets a choice of the answer.";
    }
    if (field.name == "tool_choice") field.value = V::OneOf({"none"});
    if (field.name == "n") field.value = V::Integer().AtLeast(1).AtMost(1);
    if (field.name == "tools" || field.name == "stream")
      field.value = V::Nothing();  // false is as well
  }
  return forms;
}

BodyForms CompletionForms(const ModelInfo& model, const ApiOptions& options) {
  return {{"CompletionRequest", CompletionSchemas(model, options)}};
}

BodyForms InvocationForms(const ModelInfo& model, const ApiOptions& options) {
  return {ChatForms(model, options)[0], CompletionForms(model, options)[0]};
}

BodyForms TokenizeForms(const ModelInfo& /*model*/, const ApiOptions& options) {
  const FieldSchemas shared = {
      {"model", V::String(), kModelMeaning},
      {"return_token_strs", V::Boolean().Default("false"), "Gives the tokens' texts, too."}};
  const FieldSchemas of_text = {
      {"prompt", V::String(), "The text.", true},
      {"add_special_tokens", V::Boolean().Default("true"), "Adds the tokenizer's special tokens."}};
  const FieldSchemas of_chat = {
      {"add_special_tokens", V::Boolean().Default("false"), "Adds them to the template's."}};
  return {{"TokenizeCompletionRequest", Joined({of_text, shared})},
          {"TokenizeChatRequest", Joined({ChatInputSchemas(options), of_chat, shared})}};
}

BodyForms DetokenizeForms(const ModelInfo& model, const ApiOptions& /*options*/) {
  const auto most = static_cast<size_t>(model.max_model_len);
  return {{"DetokenizeRequest",
           {{"model", V::String(), kModelMeaning},
            {"tokens", V::List(V::Integer().AtLeast(0)).AtMostLong(most), "Their ids.", true}}}};
}

}  // namespace tiercel::api
