#include "tools/bench_data.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "api/json_reader.h"
#include "options/human_int.h"
#include "tools/text_file.h"

namespace tiercel::tools {
namespace {

namespace fs = std::filesystem;
using api::Json;

// A number, or a JSON object with one for prompts and one for answers.
Status ReadRangeRatio(const std::string& value, bench::DataSetOptions* set) {
  if (const auto number = options::ParseFloat(value)) {
    set->random.input_range = set->random.output_range = *number;
    return OkStatus();
  }
  const auto json = api::ParseJson(value);
  const auto number = [&](const char* key) -> std::optional<double> {
    const Json* member = json ? json->Find(key) : nullptr;
    if (member == nullptr) return std::nullopt;
    return member->integer() != nullptr ? static_cast<double>(*member->integer()) : member->real();
  };
  const auto input = number("input"), output = number("output");
  if (!input || !output) {
    return InvalidArgument(
        "argument --random-range-ratio: found '{}', expected a number or {{\"input\": …, "
        "\"output\": …}}",
        value);
  }
  set->random.input_range = *input;
  set->random.output_range = *output;
  return OkStatus();
}

}  // namespace

Expected<bench::DataSetOptions> DataSetFromFlags(const ParsedOptions& options) {
  bench::DataSetOptions set;
  set.name = options.String("dataset-name");
  set.path = options.String("dataset-path");
  set.num_prompts = options.Int("num-prompts");
  set.seed = static_cast<uint64_t>(options.Int("seed"));
  set.oversample = !options.On("no-oversample");
  set.shuffle = !options.On("disable-shuffle");
  set.apply_chat_template = !options.On("skip-chat-template");
  // --input-len and --output-len go before the data set's own flags, as in vLLM.
  const auto length = [&](const char* general, const char* own) {
    return options.Int(options.Given(general) ? general : own);
  };
  set.random.input_len = length("input-len", "random-input-len");
  set.random.output_len = length("output-len", "random-output-len");
  set.random.prefix_len = options.Int("random-prefix-len");
  RETURN_IF_ERROR(ReadRangeRatio(options.String("random-range-ratio"), &set));
  set.prefix_repetition.prefix_len = options.Int("prefix-repetition-prefix-len");
  set.prefix_repetition.suffix_len = options.Int("prefix-repetition-suffix-len");
  set.prefix_repetition.num_prefixes = options.Int("prefix-repetition-num-prefixes");
  set.prefix_repetition.output_len = length("output-len", "prefix-repetition-output-len");
  set.sonnet.input_len = length("input-len", "sonnet-input-len");
  set.sonnet.output_len = length("output-len", "sonnet-output-len");
  set.sonnet.prefix_len = options.Int("sonnet-prefix-len");
  if (options.Given("output-len") || options.Given("sharegpt-output-len")) {
    set.sharegpt_output_len = length("output-len", "sharegpt-output-len");
  }
  set.custom_output_len = length("output-len", "custom-output-len");
  return set;
}

Expected<bench::TextTools> MakeTextTools(const serving::LoadedText& text,
                                         const std::string& template_kwargs) {
  bench::TextTools tools;
  tools.tokenizer = text.tokenizer;
  if (text.chat_template == nullptr) return tools;
  Json values(Json::Object{});
  if (!template_kwargs.empty()) {
    ASSIGN_OR_RETURN(values, api::ParseJson(template_kwargs));
  }
  values.Set("add_generation_prompt", Json(true));
  const auto token = [&](const char* name, std::optional<int32_t> id) {
    if (id) values.Set(name, Json(text.tokenizer->TokenBytes(*id)));
  };
  token("bos_token", text.tokenizer->bos());
  token("eos_token", text.tokenizer->eos());
  tools.render_chat = [values = std::move(values), chat_template = text.chat_template](
                          std::string_view message) -> Expected<std::string> {
    Json all = values;
    Json turn = Json::Of({{"role", Json("user")}, {"content", Json(message)}});
    all.Set("messages", Json(Json::Array{std::move(turn)}));
    return chat_template->Render(all.Dump());
  };
  return tools;
}

Status PrepareFile(const std::string& path) {
  std::error_code error;
  const fs::path folder = fs::path(path).parent_path();
  if (!folder.empty()) fs::create_directories(folder, error);
  if (error) return InvalidArgument("{}: cannot be made: {}", folder.string(), error.message());
  const bool exists = fs::exists(path, error);
  if (fs::is_directory(path, error)) return InvalidArgument("{}: is a folder", path);
  const std::string at = exists ? path : folder.empty() ? "." : folder.string();
  if (::access(at.c_str(), W_OK) == 0) return OkStatus();
  return InvalidArgument("{}: cannot be written: {}", path, std::strerror(errno));
}

Status WriteJson(const std::string& path, const Json& json, bool append) {
  return WriteText(path, json.Dump(), append);
}

}  // namespace tiercel::tools
