#include "api/sampling_fields.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "api/structured_output.h"
#include "base/log.h"

namespace tiercel::api {

namespace {

using sampling::SamplingParams;

// Values beyond int saturate: the range check then refuses them with the right text.
int ToInt(int64_t value) {
  return static_cast<int>(std::clamp<int64_t>(value, std::numeric_limits<int>::min(),
                                              std::numeric_limits<int>::max()));
}

float ToFloat(double value) {
  constexpr double kMax = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(value, -kMax, kMax));
}

template <typename T>
void Assign(T* target, const std::optional<double>& value, const std::optional<T>& fallback) {
  if (value) {
    *target = static_cast<T>(ToFloat(*value));
  } else if (fallback) {
    *target = *fallback;
  }
}

void ReadDistribution(Fields& fields, const SamplingDefaults& defaults, SamplingParams* params) {
  Assign(&params->temperature, fields.Number("temperature"), defaults.temperature);
  Assign(&params->top_p, fields.Number("top_p"), defaults.top_p);
  Assign(&params->min_p, fields.Number("min_p"), defaults.min_p);
  Assign(&params->repetition_penalty, fields.Number("repetition_penalty"),
         defaults.repetition_penalty);
  Assign(&params->presence_penalty, fields.Number("presence_penalty"), defaults.presence_penalty);
  Assign(&params->frequency_penalty, fields.Number("frequency_penalty"),
         defaults.frequency_penalty);
  if (const auto top_k = fields.Int("top_k")) {
    params->top_k = ToInt(*top_k);
  } else if (defaults.top_k) {
    params->top_k = *defaults.top_k;
  }
  if (const auto n = fields.Int("n")) params->n = ToInt(*n);
  // −1 is "no seed", as vLLM reads it.
  if (const auto seed = fields.Int("seed"); seed && *seed != -1) {
    params->seed = static_cast<uint64_t>(*seed);
  }
}

std::optional<ApiError> ReadStops(Fields& fields, const ApiOptions& options,
                                  SamplingParams* params) {
  const Json* stop = fields.Any("stop");
  if (stop != nullptr && stop->string() != nullptr) {
    // An empty string alone means no stop string.
    if (auto text = fields.String("stop", kMaxStopBytes); text && !text->empty()) {
      params->stop.push_back(std::move(*text));
    }
  } else if (stop != nullptr) {
    const size_t count = stop->array() != nullptr ? stop->array()->size() : 0;
    if (count > static_cast<size_t>(options.max_stop_strings)) {
      return BadParameter(
          fmt::format("stop must have at most {} strings.", options.max_stop_strings), "stop",
          std::to_string(count));
    }
    if (auto list = fields.StringList("stop", count, kMaxStopBytes)) {
      params->stop = std::move(*list);
    }
  }
  if (auto ids = fields.Int32List("stop_token_ids", kMaxStopTokens)) {
    params->stop_token_ids = std::move(*ids);
  }
  params->include_stop_str_in_output = fields.Bool("include_stop_str_in_output").value_or(false);
  params->skip_special_tokens = fields.Bool("skip_special_tokens").value_or(true);
  params->ignore_eos = fields.Bool("ignore_eos").value_or(false);
  params->min_tokens = fields.Int("min_tokens").value_or(0);
  return std::nullopt;
}

void ReadBeamSearch(Fields& fields, SamplingParams* params) {
  params->use_beam_search = fields.Bool("use_beam_search").value_or(false);
  Assign(&params->length_penalty, fields.Number("length_penalty"), std::optional<float>());
}

void ReadRepetitionDetection(Fields& fields, SamplingParams* params) {
  std::optional<Fields> inner = fields.Inner("repetition_detection");
  if (!inner) return;
  params->repetition_detection = {.max_pattern_size = ToInt(inner->Int("max_pattern_size").value_or(0)),
                                  .min_pattern_size = ToInt(inner->Int("min_pattern_size").value_or(0)),
                                  .min_count = ToInt(inner->Int("min_count").value_or(0))};
}

std::optional<ApiError> ReadTokenRules(Fields& fields, SamplingParams* params) {
  if (const Json* bias = fields.Object("logit_bias", kMaxLogitBias)) {
    params->logit_bias.reserve(bias->object()->size());
    for (const Json::Member& member : *bias->object()) {
      if (fields.full()) break;
      int32_t token = 0;
      const char* end = member.key.data() + member.key.size();
      const auto parsed = std::from_chars(member.key.data(), end, token);
      if (parsed.ec != std::errc() || parsed.ptr != end || member.key.empty()) {
        return BadRequest(
            fmt::format("Found token_id `{}` in logit_bias but token_id must be an integer or "
                        "string representing an integer",
                        member.key.substr(0, 64)),
            "logit_bias");
      }
      const std::optional<double> real = member.value.real();
      const int64_t* integer = member.value.integer();
      if (!real && integer == nullptr) {
        fields.Report("float_type", "logit_bias." + member.key.substr(0, 64), "Input should be a valid number",
                      &member.value);
        continue;
      }
      const double value = real ? *real : static_cast<double>(*integer);
      params->logit_bias.emplace_back(token, static_cast<float>(std::clamp(value, -100.0, 100.0)));
    }
  }
  params->allowed_token_ids = fields.Int32List("allowed_token_ids", kMaxAllowedTokens);
  if (auto words = fields.StringList("bad_words", kMaxBadWords, kMaxBadWordsBytes)) {
    size_t bytes = 0;
    for (const std::string& word : *words) {
      if (word.empty()) {
        return BadRequest("bad_words cannot contain an empty string.", "bad_words");
      }
      bytes += word.size();
    }
    if (bytes > kMaxBadWordsBytes) {
      return BadParameter(
          fmt::format("bad_words must have at most {} bytes together.", kMaxBadWordsBytes),
          "bad_words", std::to_string(bytes));
    }
    params->bad_words = std::move(*words);
  }
  return std::nullopt;
}

std::optional<ApiError> ReadPromptLogprobs(Fields& fields, GenerationRequest* request) {
  const auto value = fields.Int("prompt_logprobs");
  if (!value) return std::nullopt;
  const std::string shown = std::to_string(*value);
  if (request->stream && (*value > 0 || *value == -1)) {
    return BadParameter("`prompt_logprobs` are not available when `stream=True`.",
                        "prompt_logprobs", shown);
  }
  if (*value < -1) {
    return BadParameter("`prompt_logprobs` must be a positive value or -1.", "prompt_logprobs",
                        shown);
  }
  if (!request->stream) request->params.prompt_logprobs = ToInt(*value);
  return std::nullopt;
}

std::optional<ApiError> ReadStreaming(Fields& fields, const ApiOptions& options,
                                      GenerationRequest* request) {
  request->stream = fields.Bool("stream").value_or(false);
  if (const Json* stream_options = fields.Object("stream_options")) {
    if (!request->stream) {
      return BadRequest("Stream options can only be defined when `stream=True`.",
                        "stream_options");
    }
    if (const Json* v = stream_options->Find("include_usage"); v != nullptr && v->boolean()) {
      request->include_usage = *v->boolean();
    }
    if (const Json* v = stream_options->Find("continuous_usage_stats");
        v != nullptr && v->boolean()) {
      request->continuous_usage = request->include_usage && *v->boolean();
    }
  }
  if (options.enable_force_include_usage) {
    request->include_usage = request->continuous_usage = true;
  }
  request->stream_interval = options.stream_interval;
  if (const auto interval = fields.Int("stream_interval")) {
    if (*interval < 1) {
      return BadParameter("stream_interval must be at least 1.", "stream_interval",
                          std::to_string(*interval));
    }
    request->stream_interval = std::max(request->stream_interval, ToInt(*interval));
  }
  return std::nullopt;
}

std::optional<ApiError> ReadScheduling(Fields& fields, const ApiOptions& options,
                                       RequestBase* request) {
  request->priority = ToInt(fields.Int("priority").value_or(0));
  if (request->priority != 0 && !options.priority_scheduling) {
    return BadRequest(fmt::format("Got priority {} but Priority scheduling is not enabled.",
                                  request->priority),
                      "priority");
  }
  if (auto salt = fields.String("cache_salt")) {
    if (salt->empty()) {
      return BadRequest("Parameter 'cache_salt' must be a non-empty string if provided.",
                        "cache_salt");
    }
    if (salt->size() > 128) {
      return BadRequest("Parameter 'cache_salt' must have at most 128 characters.", "cache_salt");
    }
    if (salt->find_first_of(std::string_view("@/\\\0", 4)) != std::string::npos) {
      return BadRequest("Parameter 'cache_salt' must not contain '@', '/', '\\' or NUL.",
                        "cache_salt");
    }
    request->cache_salt = std::move(*salt);
  }
  request->request_id = fields.String("request_id").value_or("");
  return std::nullopt;
}

std::optional<ApiError> ReadTruncation(Fields& fields, RequestBase* request) {
  request->truncate_prompt_tokens = fields.Int("truncate_prompt_tokens");
  if (request->truncate_prompt_tokens && *request->truncate_prompt_tokens < -1) {
    return BadParameter("truncate_prompt_tokens must be greater than or equal to -1.",
                        "truncate_prompt_tokens",
                        std::to_string(*request->truncate_prompt_tokens));
  }
  if (const auto side = fields.String("truncation_side")) {
    if (*side != "left" && *side != "right") {
      return BadParameter("truncation_side must be 'left' or 'right'.", "truncation_side", side->substr(0, 64));
    }
    request->truncate_right = *side == "right";
  }
  return std::nullopt;
}

std::optional<ApiError> ReadConstraints(Fields& fields, const ApiOptions& options,
                                        GenerationRequest* request) {
  Result<MaybeGrammar> grammar = ReadStructuredOutput(fields, options);
  if (!grammar) return std::move(grammar).error();
  request->grammar = std::move(*grammar);
  request->grammar_param =
      fields.Any("structured_outputs") != nullptr ? "structured_outputs" : "response_format";
  request->thinking_token_budget = fields.Int("thinking_token_budget");
  if (!request->thinking_token_budget) return std::nullopt;
  if (*request->thinking_token_budget < 0) {
    return BadParameter("thinking_token_budget must be at least 0.", "thinking_token_budget",
                        std::to_string(*request->thinking_token_budget));
  }
  if (options.reasoning == ReasoningFormat::kNone) {
    return BadRequest("thinking_token_budget requires --reasoning-parser to be set",
                      "thinking_token_budget");
  }
  return std::nullopt;
}

}  // namespace

std::optional<ApiError> ReadBaseFields(Fields& fields, const ApiOptions& options,
                                       RequestBase* request) {
  request->model = fields.String("model").value_or("");
  if (auto error = ReadScheduling(fields, options, request)) return error;
  return ReadTruncation(fields, request);
}

std::optional<ApiError> ReadGenerationFields(Fields& fields, const ApiOptions& options,
                                             GenerationRequest* request) {
  ReadDistribution(fields, options.sampling_defaults, &request->params);
  if (auto error = ReadStreaming(fields, options, request)) return error;
  if (auto error = ReadStops(fields, options, &request->params)) return error;
  ReadRepetitionDetection(fields, &request->params);
  ReadBeamSearch(fields, &request->params);
  if (auto error = ReadTokenRules(fields, &request->params)) return error;
  if (auto error = ReadPromptLogprobs(fields, request)) return error;
  if (auto error = ReadBaseFields(fields, options, request)) return error;
  if (auto error = ReadConstraints(fields, options, request)) return error;
  request->return_token_ids = fields.Bool("return_token_ids").value_or(false);
  request->return_tokens_as_token_ids =
      fields.Bool("return_tokens_as_token_ids").value_or(options.return_tokens_as_token_ids);
  if (request->params.n > options.max_n) {
    return BadParameter(fmt::format("n must be at most {}, got {}.", options.max_n,
                                    request->params.n),
                        "n", std::to_string(request->params.n));
  }
  for (const char* name : {"n", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
                           "presence_penalty", "frequency_penalty", "max_tokens", "min_tokens",
                           "logprobs", "prompt_logprobs"}) {
    if (const Json* value = fields.Any(name)) request->given.emplace_back(name, value->DumpStart(64));
  }
  return std::nullopt;
}

std::optional<ApiError> RefuseUnofferedFields(Fields& fields) {
  for (const char* name : {"watermarking", "logprob_token_ids", "kv_transfer_params",
                           "ec_transfer_params"}) {
    if (fields.Any(name) != nullptr) {
      return NotOffered(fmt::format("`{}` is not supported by this server.", name), name);
    }
  }
  for (const char* name : {"guided_json", "guided_regex", "guided_choice", "guided_grammar"}) {
    if (fields.Any(name) != nullptr) {
      LOG_WARNING("request field {} was removed from the API and is ignored", name);
    }
  }
  // Known, and without effect here: they need no word in the log. Those that vLLM's models know have
  // their types.
  fields.String("user", kMaxJsonBytes);
  fields.Bool("spaces_between_special_tokens");
  fields.Object("vllm_xargs", kMaxObjectKeys);
  for (const char* name : {"best_of", "session_id", "metadata", "store", "service_tier"}) {
    fields.Any(name);
  }
  return std::nullopt;
}

std::optional<ApiError> CheckBeamSearch(const GenerationRequest& request) {
  const SamplingParams& params = request.params;
  if (request.stream) {
    return BadRequest("Streaming is not currently supported with beam search", "stream");
  }
  const auto is_given = [&request](std::string_view name) {
    return std::any_of(request.given.begin(), request.given.end(),
                       [name](const auto& given) { return given.first == name; });
  };
  // What the server sets as a default means sampling alone, and is no fault of the request.
  const std::pair<const char*, bool> wanted[] = {
      {"repetition_penalty", is_given("repetition_penalty") && params.repetition_penalty != 1},
      {"presence_penalty", is_given("presence_penalty") && params.presence_penalty != 0},
      {"frequency_penalty", is_given("frequency_penalty") && params.frequency_penalty != 0},
      {"min_tokens", params.min_tokens > 0},
      {"stop_token_ids", !params.stop_token_ids.empty()},
      {"logit_bias", !params.logit_bias.empty()},
      {"allowed_token_ids", params.allowed_token_ids.has_value()},
      {"bad_words", !params.bad_words.empty()},
      {"prompt_logprobs", params.prompt_logprobs.has_value()},
      {"repetition_detection", params.repetition_detection.max_pattern_size > 0},
      {"thinking_token_budget", request.thinking_token_budget.has_value()},
  };
  for (const auto& [name, is_wanted] : wanted) {
    if (is_wanted) return NotOffered(fmt::format("`{}` is not supported with beam search.", name), name);
  }
  if (request.grammar) {
    return NotOffered(fmt::format("`{}` is not supported with beam search.", request.grammar_param),
                      request.grammar_param);
  }
  return std::nullopt;
}

void NoteUnreadFields(const Fields& fields) {
  if (!spdlog::should_log(spdlog::level::debug)) return;
  for (const std::string_view name : fields.Unread(kMaxFaults)) {
    LOG_DEBUG("request field `{}` is not known and ignored", name.substr(0, 64));
  }
}

}  // namespace tiercel::api
