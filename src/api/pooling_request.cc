#include "api/pooling_request.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "api/chat_messages.h"
#include "api/fields.h"
#include "api/sampling_fields.h"

namespace tiercel::api {
namespace {

using engine::PoolingTask;

std::optional<ApiError> ReadTask(Fields& fields, const PoolingInfo& info, PoolingRequest* request) {
  PoolingTask& task = request->params.task;
  task = info.classifies ? PoolingTask::kClassify : PoolingTask::kEmbed;
  const auto name = request->endpoint == PoolingEndpoint::kPooling ? fields.String("task") : std::nullopt;
  if (!name) return std::nullopt;
  constexpr struct {
    std::string_view name;
    PoolingTask task;
  } kTasks[] = {{"embed", PoolingTask::kEmbed},
                {"token_embed", PoolingTask::kTokenEmbed},
                {"classify", PoolingTask::kClassify},
                {"token_classify", PoolingTask::kTokenClassify}};
  const auto known = std::find_if(std::begin(kTasks), std::end(kTasks),
                                  [&](const auto& entry) { return entry.name == *name; });
  const engine::PoolingParams asked = {known == std::end(kTasks) ? task : known->task};
  if (known == std::end(kTasks) || asked.classifies() != info.classifies) {
    return BadParameter(fmt::format("Unsupported task: this model offers {}.",
                                    info.classifies ? "'classify' and 'token_classify'"
                                                    : "'embed' and 'token_embed'"),
                        "task", name->substr(0, 64));
  }
  task = known->task;
  return std::nullopt;
}

std::optional<ApiError> CheckDimensions(int64_t dimensions, const PoolingInfo& info,
                                        const ModelInfo& model) {
  const auto refuse = [&](std::string message) {
    return BadParameter(std::move(message), "dimensions", std::to_string(dimensions));
  };
  if (dimensions < 1) return refuse("Dimensions must be greater than 0");
  const std::string& name = model.served_names.at(0);
  if (!info.is_matryoshka) {
    return refuse(fmt::format(
        "Model \"{}\" does not support matryoshka representation, changing output dimensions will "
        "lead to poor results. (A model that was trained for it is started with --hf-overrides "
        "'{{\"is_matryoshka\": true}}'.)",
        name));
  }
  const std::vector<int64_t>& offered = info.matryoshka_dimensions;
  if (!offered.empty() && std::find(offered.begin(), offered.end(), dimensions) == offered.end()) {
    return refuse(fmt::format("Model \"{}\" only supports {} matryoshka dimensions, use other output "
                              "dimensions will lead to poor results.",
                              name, offered));
  }
  if (dimensions > info.hidden_size) {
    return refuse(fmt::format("Model \"{}\" gives vectors of {} dimensions.", name, info.hidden_size));
  }
  return std::nullopt;
}

// One of several words; nullopt if the field is absent or is none of them (then reported).
template <size_t n>
std::optional<size_t> ReadChoice(Fields& fields, std::string_view name,
                                 const std::array<std::string_view, n>& words) {
  const auto word = fields.String(name);
  if (!word) return std::nullopt;
  const auto found = std::find(words.begin(), words.end(), *word);
  if (found != words.end()) return static_cast<size_t>(found - words.begin());
  const Json value(word->substr(0, 64));
  fields.Report("literal_error", name,
                fmt::format("Input should be '{}'", fmt::join(words, "', '")), &value);
  return std::nullopt;
}

std::optional<ApiError> ReadEncoding(Fields& fields, PoolingEncoding* encoding) {
  constexpr std::array<std::string_view, 4> kFormats = {"float", "base64", "bytes", "bytes_only"};
  constexpr std::array<std::string_view, 5> kTypes = {"float32", "float16", "bfloat16", "fp8_e4m3",
                                                      "fp8_e5m2"};
  constexpr std::array<std::string_view, 3> kEndianness = {"native", "little", "big"};
  const size_t format = ReadChoice(fields, "encoding_format", kFormats).value_or(0);
  if (format > 1) {
    return NotOffered("The encoding formats `bytes` and `bytes_only` are not supported: ask for "
                      "`base64`.",
                      "encoding_format");
  }
  const size_t type = ReadChoice(fields, "embed_dtype", kTypes).value_or(0);
  if (type > 2) return NotOffered("FP8 vectors are not supported.", "embed_dtype");
  encoding->base64 = format == 1;
  encoding->type = static_cast<PoolingEncoding::Type>(type);
  encoding->big_endian = ReadChoice(fields, "endianness", kEndianness).value_or(0) == 2;
  return std::nullopt;
}

// A text or a list of texts; absent: reported.
std::vector<std::string> ReadTexts(Fields& fields, std::string_view name, const ApiOptions& options) {
  Json* value = fields.Any(name);
  std::vector<std::string> texts;
  if (value == nullptr) {
    fields.Report("missing", name, "Field required");
  } else if (std::string* text = value->string()) {
    texts.push_back(std::move(*text));
  } else if (auto list = fields.StringList(name, static_cast<size_t>(options.max_completion_prompts),
                                           kMaxJsonBytes)) {
    texts = std::move(*list);
  }
  return texts;
}

// The members that hold the texts to compare: vLLM takes four spellings.
std::pair<std::string_view, std::string_view> TextNames(Fields& fields, PoolingEndpoint endpoint) {
  if (endpoint == PoolingEndpoint::kRerank) return {"query", "documents"};
  if (fields.Any("data_1") != nullptr) return {"data_1", "data_2"};
  if (fields.Any("queries") == nullptr) return {"text_1", "text_2"};
  return {"queries", fields.Any("items") != nullptr ? "items" : "documents"};
}

std::optional<ApiError> ReadPairs(Fields& fields, const ApiOptions& options,
                                  PoolingRequest* request) {
  const auto [first, second] = TextNames(fields, request->endpoint);
  request->first_texts = ReadTexts(fields, first, options);
  request->second_texts = ReadTexts(fields, second, options);
  for (const char* name : {"max_tokens_per_query", "max_tokens_per_doc"}) {
    if (fields.Int(name).value_or(0) > 0) {
      return NotOffered(fmt::format("`{}` is not supported: use truncate_prompt_tokens.", name), name);
    }
  }
  if (request->endpoint == PoolingEndpoint::kRerank) {
    request->top_n = static_cast<size_t>(std::max<int64_t>(0, fields.Int("top_n").value_or(0)));
  }
  const size_t firsts = request->first_texts.size(), seconds = request->second_texts.size();
  if (fields.full() || firsts == 0 || seconds == 0) {
    // What is missing or of another type is told with the schema's faults; what is empty here.
    for (const std::string_view name : {first, second}) {
      const Json* value = fields.Any(name);
      if (value == nullptr || value->array() == nullptr || !value->array()->empty()) continue;
      return BadRequest(fmt::format("At least one {} element must be given", name), std::string(name));
    }
    return std::nullopt;
  }
  const bool one_query = request->endpoint == PoolingEndpoint::kRerank;
  if (firsts != seconds && firsts != 1) return BadRequest("Input lengths must be either 1:1, 1:N or N:N");
  if (one_query && firsts != 1) return BadRequest("query must be one text", "query");
  return std::nullopt;
}

std::optional<ApiError> ReadInput(Fields& fields, const ApiOptions& options,
                                  PoolingRequest* request) {
  if (fields.Any("messages") == nullptr) {
    request->add_special_tokens = fields.Bool("add_special_tokens").value_or(true);
    return ReadPromptInputs(fields, "input", "`input` must be provided and non-empty.", options,
                            &request->prompts);
  }
  request->chat.emplace();
  if (auto error = ReadChatInput(fields, options, &*request->chat)) return error;
  // Here a chat is a text to look at, not one to go on with.
  request->chat->add_generation_prompt = fields.Bool("add_generation_prompt").value_or(false);
  request->add_special_tokens = fields.Bool("add_special_tokens").value_or(false);
  return std::nullopt;
}

bool Compares(PoolingEndpoint endpoint) {
  return endpoint == PoolingEndpoint::kScore || endpoint == PoolingEndpoint::kRerank;
}

std::optional<ApiError> CheckSupported(PoolingEndpoint endpoint, const PoolingInfo& info) {
  const bool needs_labels = endpoint == PoolingEndpoint::kClassify;
  const bool needs_vectors = endpoint == PoolingEndpoint::kEmbeddings;
  if (needs_vectors && info.classifies) {
    return BadRequest("The model does not support Embeddings API");
  }
  if (needs_labels && !info.classifies) {
    return BadRequest("The model does not support Classification API");
  }
  if (Compares(endpoint) && info.classifies && info.labels.size() != 1) {
    return BadRequest(fmt::format("The model does not support Score API: it has {} labels, a score is "
                                  "that of one",
                                  info.labels.size()));
  }
  return std::nullopt;
}

}  // namespace

Result<PoolingRequest> ReadPoolingRequest(Json json, PoolingEndpoint endpoint, const ModelInfo& model,
                                          const ApiOptions& options) {
  const PoolingInfo& info = *model.pooling;
  API_RETURN_IF_ERROR(CheckSupported(endpoint, info));
  SchemaErrors errors;
  Fields fields(json, &errors);
  if (fields.Any("normalize") != nullptr) {
    return Fail(BadRequest("Parameter `normalize` was removed; use `use_activation` instead.",
                           "normalize"));
  }
  PoolingRequest request;
  request.endpoint = endpoint;
  API_RETURN_IF_ERROR(ReadBaseFields(fields, options, &request));
  API_RETURN_IF_ERROR(ReadTask(fields, info, &request));
  request.params.use_activation = fields.Bool("use_activation").value_or(info.use_activation);
  if (Compares(endpoint)) {
    API_RETURN_IF_ERROR(ReadPairs(fields, options, &request));
  } else {
    API_RETURN_IF_ERROR(ReadEncoding(fields, &request.encoding));
    API_RETURN_IF_ERROR(ReadInput(fields, options, &request));
    if (!info.classifies) request.params.dimensions = info.dimensions;
    if (const auto dimensions = fields.Int("dimensions")) {
      if (endpoint != PoolingEndpoint::kEmbeddings) {
        return Fail(BadRequest("dimensions is currently not supported", "dimensions"));
      }
      API_RETURN_IF_ERROR(CheckDimensions(*dimensions, info, model));
      request.params.dimensions = *dimensions;
    }
  }
  if (ReadChoice(fields, "padding", std::array<std::string_view, 2>{"do_not_pad", "max_length"}) == 1) {
    return Fail(NotOffered("Padding is not supported: a causal model has no use for it.", "padding"));
  }
  if (!errors.empty()) return Fail(errors.ToError());
  for (const char* name : {"user", "mm_processor_kwargs", "media_io_kwargs"}) fields.Any(name);
  NoteUnreadFields(fields);
  return request;
}

}  // namespace tiercel::api
