// tiercel quantize: writes a float model as W8A8 or W4A8, in the format of the Ascend quantizer, in four bits as
// compressed-tensors has them, or as a GGUF file.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "base/human_bytes.h"
#include "base/log.h"
#include "checkpoint/model_folder.h"
#include "model/layer_calibration.h"
#include "options/env_vars.h"
#include "options/json_value.h"
#include "quantize/gguf_quantizer.h"
#include "quantize/model_quantizer.h"
#include "serving/generation_defaults.h"
#include "serving/model_path.h"
#include "serving/parallel_config.h"
#include "serving/progress_bar.h"
#include "text/chat_template.h"
#include "text/gguf_vocab.h"
#include "text/tokenizer.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/interrupt.h"
#include "tools/output_folder.h"

namespace tiercel::tools {
namespace {

namespace fs = std::filesystem;

constexpr OptionSpec kQuantizeOptions[] = {
    {"--scheme", Kind::kString, "w8a8-dynamic", Effect::kUsed,
     "w8a8: one input scale for all tokens, from calibration. w8a8-dynamic: a scale for each token, "
     "found as it comes. w8a8-mix: the tensors of both. w4a8, int4: weights of four bits with a scale for each group, as "
     "the Ascend quantizer and as compressed-tensors have them. q4_0, q4_k_m, q5_k_m, q6_k, q8_0: a GGUF file in llama.cpp's "
     "mix of that name.",
     "w8a8|w8a8-dynamic|w8a8-mix|w4a8|int4|q4_0|q4_k_m|q5_k_m|q6_k|q8_0"},
    {"--method", Kind::kString, "rtn", Effect::kUsed,
     "With w4a8 and int4. rtn: each weight is rounded to the nearest. gptq: later inputs make up for the errors of earlier ones, "
     "by the inputs in calibration. awq: weights of large inputs are scaled up first, as what comes before them is scaled "
     "down, and then rounded.",
     "rtn|gptq|awq"},
    {"--group", Kind::kInt, "128", Effect::kUsed, "With w4a8 and int4: inputs of a row that share a scale: 32, 64 or 128."},
    {"--calibration", Kind::kString, "", Effect::kUsed,
     "A text file like what the model will get; needed by w8a8, w8a8-mix, gptq, awq, --smooth and --kv. With w4a8, "
     "int4 and GGUF it adds what outputs lose to the table."},
    {"--calibration-tokens", Kind::kHumanInt, "8192", Effect::kUsed,
     "Tokens of the text to use, in sequences of 512."},
    {"--smooth", Kind::kFloat, "0", Effect::kUsed,
     "Moves outliers from inputs to weights (SmoothQuant's alpha, 0.5 is common). 0: not at all."},
    {"--static-loss", Kind::kFloat, "0.1", Effect::kUsed,
     "With w8a8: linears whose inputs lose more than this by one scale for all tokens (mean relative "
     "error) are written as W8A8_DYNAMIC. The table shows which. 1: none."},
    {"--kv", Kind::kString, "auto", Effect::kUsed,
     "int8: also scales for an INT8 KV cache (C8), one a channel, from calibration.", "auto|int8"},
    {"--exclude", Kind::kStrings, "", Effect::kUsed,
     "Linears that stay float: patterns such as '*.down_proj'. lm_head always does, but in GGUF, where lm_head and "
     "model.embed_tokens can be named, too."},
};

const OptionTable& QuantizeTable() {
  static const OptionTable table({{"options", "Of tiercel quantize.", kQuantizeOptions}});
  return table;
}

constexpr CommandHelp kQuantizeHelp = {
    "tiercel quantize MODEL OUT [options]",
    "Writes MODEL (a folder or a hub id, float safetensors) to the new folder OUT: with INT8 or INT4 weights in "
    "the format of the Ascend quantizer, or with INT4 weights in that of compressed-tensors; or to the new file OUT, in GGUF. "
    "Memory: one layer at a time.",
    "positional arguments:\n  MODEL       a folder with config.json and *.safetensors, or a hub id\n"
    "  OUT         the folder to write, which must not exist or be empty; with GGUF the file, *.gguf, which must not exist (OUT.part until it is whole)"};

Expected<quantize::QuantizeOptions> ReadOptions(const ParsedOptions& options) {
  quantize::QuantizeOptions result;
  const std::string scheme = options.String("scheme");
  result.scheme = scheme == "w8a8"       ? quantize::QuantScheme::kStatic
                  : scheme == "w8a8-mix" ? quantize::QuantScheme::kMix
                  : scheme == "w4a8"     ? quantize::QuantScheme::kW4A8
                  : scheme == "int4"     ? quantize::QuantScheme::kInt4
                                         : quantize::QuantScheme::kDynamic;
  if (!quantize::IsFourBits(result.scheme) && (options.Given("method") || options.Given("group"))) {
    return Unexpected(InvalidArgument("argument --{}: belongs to --scheme w4a8 and int4",
                                      options.Given("method") ? "method" : "group"));
  }
  const std::string method = options.String("method");
  result.method = method == "gptq" ? quantize::Rounding::kGptq : method == "awq" ? quantize::Rounding::kAwq : quantize::Rounding::kNearest;
  result.group = options.Int("group");
  if (result.group != 32 && result.group != 64 && result.group != 128) {
    return Unexpected(InvalidArgument("argument --group: found {}, expected 32, 64 or 128", result.group));
  }
  result.smooth = options.Float("smooth");
  if (!(result.smooth >= 0 && result.smooth <= 1)) {
    return Unexpected(InvalidArgument("argument --smooth: found {}, expected 0 … 1",
                                      options.String("smooth")));
  }
  result.static_loss = options.Float("static-loss");
  if (!(result.static_loss >= 0 && result.static_loss <= 1)) {
    return Unexpected(InvalidArgument("argument --static-loss: found {}, expected 0 … 1",
                                      options.String("static-loss")));
  }
  result.kv_int8 = options.String("kv") == "int8";
  result.exclude = options.Strings("exclude");
  const int64_t tokens = options.Int("calibration-tokens");
  if (tokens < 1 || tokens > 1 << 24) {
    return Unexpected(InvalidArgument("argument --calibration-tokens: found {}, expected 1 … 2^24",
                                      tokens));
  }
  return result;
}

// Of a GGUF file, which holds weights alone.
Status CheckGgufOptions(const ParsedOptions& options, const std::string& out) {
  for (const char* flag : {"smooth", "static-loss", "kv"}) {
    if (options.Given(flag)) {
      return InvalidArgument("--scheme {} writes weights alone; leave --{} out", options.String("scheme"), flag);
    }
  }
  if (!out.ends_with(".gguf")) {
    return InvalidArgument("{}: --scheme {} writes one file; give it a name that ends in .gguf", out, options.String("scheme"));
  }
  std::error_code error;
  if (fs::exists(fs::symlink_status(out, error))) return InvalidArgument("{}: is there already; name a new file", out);
  return OkStatus();
}

// The text's tokens in sequences.
Expected<std::vector<std::vector<int32_t>>> ReadCalibration(const std::string& path,
                                                            const std::string& model,
                                                            int64_t max_tokens,
                                                            int64_t vocab_size) {
  std::ifstream file(path);
  if (!file) return Unexpected(NotFound("--calibration: {} cannot be opened", path));
  // No tokenizer makes a token of more than this many bytes on average.
  std::string text(static_cast<size_t>(max_tokens) * 16, '\0');
  file.read(text.data(), std::ssize(text));
  text.resize(static_cast<size_t>(file.gcount()));
  ASSIGN_OR_RETURN(const std::shared_ptr<const text::Tokenizer> tokenizer,
                   text::Tokenizer::Load(model));
  ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer->Encode(text, false));
  std::erase_if(ids, [&](int32_t id) { return id >= vocab_size; });
  ids.resize(std::min<size_t>(ids.size(), static_cast<size_t>(max_tokens)));
  if (ids.empty()) return Unexpected(InvalidArgument("--calibration: {} has no text", path));
  std::vector<std::vector<int32_t>> sequences;
  constexpr int64_t kLength = model::LayerCalibration::kMaxTokens;
  for (int64_t at = 0; at < std::ssize(ids); at += kLength) {
    sequences.emplace_back(ids.begin() + at, ids.begin() + std::min(at + kLength, std::ssize(ids)));
  }
  return sequences;
}

// Everything that is no weight: configuration, tokenizer, chat template.
Status CopyOtherFiles(const std::string& from, const std::string& to, const std::string& quantization_config) {
  for (const std::string& name : checkpoint::ListFiles(from, "")) {
    std::error_code error;
    if (!fs::is_regular_file(from + "/" + name, error) || name == "config.json") continue;
    const bool wanted = name.ends_with(".json") || name.ends_with(".txt") ||
                        name.ends_with(".jinja") || name.ends_with(".model") ||
                        name.starts_with("LICENSE") || name.starts_with("NOTICE");
    if (!wanted || name.ends_with(".index.json")) continue;
    fs::copy_file(from + "/" + name, to + "/" + name, error);
    if (error) return FailedPrecondition("{}/{}: cannot be written: {}", to, name, error.message());
  }
  ASSIGN_OR_RETURN(std::string config, checkpoint::ReadSmallFile(from + "/config.json"));
  // Float tensors are written as BF16.
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (config.find(fmt::format("\"{}\"", key)) == std::string::npos) continue;
    ASSIGN_OR_RETURN(config, options::SetJsonPath(config, key, "bfloat16", false));
  }
  if (!quantization_config.empty()) {
    ASSIGN_OR_RETURN(config, options::SetJsonPath(config, "quantization_config", quantization_config, false));
  }
  std::ofstream file(to + "/config.json");
  file << config << "\n";
  file.close();
  return file ? OkStatus() : ResourceExhausted("{}/config.json: cannot be written", to);
}

std::string ShortName(const quantize::LinearError& error) { return error.name.substr(error.name.find('.') + 1); }

std::string Percent(double part) { return part < 0 ? "float" : fmt::format("{:.3f}", 100 * part); }

// Four bits: the weights' errors, and with calibration those of the outputs.
void PrintInt4Errors(int64_t layer, const std::vector<quantize::LinearError>& errors) {
  const auto outputs = [](const quantize::LinearError& e) { return e.output_error >= 0; };
  const bool calibrated = std::any_of(errors.begin(), errors.end(), outputs);
  if (layer == 0) {
    std::printf("relative error in percent: of the weights%s\nlayer", calibrated ? " / of the outputs" : "");
    for (const quantize::LinearError& e : errors) std::printf(" %15s", ShortName(e).c_str());
    std::printf("\n");
  }
  std::printf("%5lld", static_cast<long long>(layer));
  for (const quantize::LinearError& e : errors) {
    std::printf(" %15s", (Percent(e.error) + (outputs(e) ? " / " + Percent(e.output_error) : "")).c_str());
  }
  std::printf("\n");
  std::fflush(stdout);
}

// A row for each layer: the weights' errors, and with calibration what the inputs lose by one scale
// for all tokens and by one for each.
void PrintInt8Errors(int64_t layer, const std::vector<quantize::LinearError>& errors) {
  // One column for the linears that have the same input.
  const int inputs[] = {0, 3, 4, 6};  // q, k, v; o; gate, up; down
  const bool calibrated = errors[0].inputs.one_scale > 0;
  if (layer == 0) {
    std::fputs("relative error in percent: of the weights", stdout);
    if (calibrated) {
      std::fputs("; of the inputs by one scale / by one for each token (d: so it is written)", stdout);
    }
    std::fputs("\nlayer", stdout);
    for (const quantize::LinearError& e : errors) std::fprintf(stdout, " %9s", ShortName(e).c_str());
    for (const int i : inputs) {
      if (calibrated) std::fprintf(stdout, " %13s", ("x " + ShortName(errors[i])).c_str());
    }
    std::fputs("\n", stdout);
  }
  std::fprintf(stdout, "%5lld", static_cast<long long>(layer));
  for (const quantize::LinearError& e : errors) {
    std::fprintf(stdout, " %9s", Percent(e.error).c_str());
  }
  for (const int i : inputs) {
    if (!calibrated) continue;
    const quantize::LinearError& e = errors[i];
    std::fprintf(stdout, " %13s",
                 fmt::format("{:.2f} / {:.2f}{}", 100 * e.inputs.one_scale, 100 * e.inputs.per_token,
                             e.per_token ? " d" : "").c_str());
  }
  std::fputs("\n", stdout);
  std::fflush(stdout);
}

quantize::QuantizeCallbacks Callbacks(serving::ProgressBar* bar, const std::atomic<bool>* stop,
                                      void (*print)(int64_t, const std::vector<quantize::LinearError>&)) {
  const auto progress = [bar, stop](int64_t done, int64_t total) -> Status {
    bar->Update(done, total);
    return *stop ? Status(StatusCode::kCancelled, "interrupted") : OkStatus();
  };
  return {progress, print};
}

Status WriteFolder(const checkpoint::Checkpoint& checkpoint, const std::string& model,
                   const quantize::QuantizeOptions& options, kernels::Environment* environment, const std::string& out,
                   const std::atomic<bool>* stop) {
  ASSIGN_OR_RETURN(OutputFolder folder, OutputFolder::Make(out));
  const bool four_bits = quantize::IsFourBits(options.scheme);
  std::string config;
  {
    serving::ProgressBar bar("Quantizing", true);
    const auto callbacks = Callbacks(&bar, stop, four_bits ? &PrintInt4Errors : &PrintInt8Errors);
    ASSIGN_OR_RETURN(config, quantize::QuantizeModel(checkpoint, options, environment, out, callbacks));
  }
  RETURN_IF_ERROR(CopyOtherFiles(model, out, config));
  folder.Keep();
  std::printf("%s: written; serve it with: tiercel serve %s%s\n", out.c_str(), out.c_str(),
              options.scheme == quantize::QuantScheme::kInt4 ? "" : " --quantization ascend");
  return OkStatus();
}

// What the file says of the tokenizer, of the template and of what ends an answer.
Status DescribeTokenizer(const checkpoint::Checkpoint& checkpoint, const std::string& model,
                         checkpoint::GgufDescription* description) {
  const checkpoint::ModelConfig& config = checkpoint.config();
  checkpoint::GgufTokenizerData& tokenizer = description->tokenizer;
  ASSIGN_OR_RETURN(static_cast<GgufVocab&>(tokenizer), text::ReadGgufVocab(model, config.vocab_size));
  if (auto source = text::ChatTemplate::FindSource(model)) {
    tokenizer.chat_template = std::move(*source);
  } else if (source.error().code() != StatusCode::kNotFound) {
    return source.error();
  }
  if (tokenizer.bos < 0) tokenizer.bos = config.bos_token_id.value_or(-1);
  description->ends = serving::EosTokenIds(
      tokenizer.eos >= 0 ? std::optional(static_cast<int32_t>(tokenizer.eos)) : std::nullopt, config.eos_token_ids,
      checkpoint.generation_config().eos_token_ids);
  if (tokenizer.eos < 0 && !description->ends.empty()) tokenizer.eos = description->ends.front();
  return OkStatus();
}

Status WriteGguf(const checkpoint::Checkpoint& checkpoint, const std::string& model, const quantize::GgufScheme& scheme,
                 quantize::QuantizeOptions options, kernels::Environment* environment, const std::string& out,
                 const std::atomic<bool>* stop) {
  quantize::GgufOptions gguf;
  gguf.scheme = &scheme;
  gguf.exclude = std::move(options.exclude);
  gguf.calibration = std::move(options.calibration);
  gguf.description.name = fs::canonical(model).filename().string();
  RETURN_IF_ERROR(DescribeTokenizer(checkpoint, model, &gguf.description));
  std::string types;
  {
    serving::ProgressBar bar("Quantizing", true);
    ASSIGN_OR_RETURN(types, quantize::QuantizeToGguf(checkpoint, std::move(gguf), environment, out,
                                                     Callbacks(&bar, stop, &PrintInt4Errors)));
  }
  std::printf("%s: written, %s (tensors: %s); serve it with: tiercel serve %s\n", out.c_str(),
              HumanBytes(static_cast<int64_t>(fs::file_size(out))).c_str(), types.c_str(), out.c_str());
  return OkStatus();
}

// A pattern of no linear is a slip that would quantize what was meant to stay float.
void WarnOfExclusions(const std::vector<std::string>& patterns, const checkpoint::ModelConfig& config) {
  std::vector<std::string> names = {"lm_head", "model.embed_tokens"};
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const quantize::LinearJob& job : quantize::LinearsOf(config, layer, {}, {})) names.push_back(job.name);
  }
  for (const std::string& pattern : patterns) {
    const auto is_its = [&](const std::string& name) { return quantize::IsExcluded({pattern}, name); };
    if (std::any_of(names.begin(), names.end(), is_its)) continue;
    LOG_WARNING("--exclude: {}: no linear has such a name; expected one like {}, with * for any part", pattern, names.back());
  }
}

Status Quantize(const ParsedOptions& parsed, const Environ& environ, Interrupt* interrupt) {
  ASSIGN_OR_RETURN(quantize::QuantizeOptions options, ReadOptions(parsed));
  const std::string out = parsed.positional()[1];
  const quantize::GgufScheme* const gguf = quantize::FindGgufScheme(parsed.String("scheme"));
  if (gguf != nullptr) RETURN_IF_ERROR(CheckGgufOptions(parsed, out));
  ASSIGN_OR_RETURN(const kernels::EnvironmentOptions workers, serving::EnvironmentOfVariables(environ));
  ASSIGN_OR_RETURN(const std::string model, serving::FindModel(parsed.positional()[0], {}, environ));
  std::error_code error;
  if (!fs::is_directory(model, error)) {
    return InvalidArgument("{}: expected a folder with config.json and *.safetensors", model);
  }
  ASSIGN_OR_RETURN(const auto checkpoint, checkpoint::Checkpoint::Open(model));
  if (checkpoint->gguf_tokenizer() != nullptr) {
    return InvalidArgument("{}: is a GGUF model; quantize the original safetensors", model);
  }
  if (checkpoint->BlockFormatOf("model.layers.0.mlp.down_proj.weight") != BlockFormat::kNone) {
    return InvalidArgument("{}: has weights of four bits already; quantize the float model", model);
  }
  WarnOfExclusions(options.exclude, checkpoint->config());
  if (parsed.Given("calibration")) {
    ASSIGN_OR_RETURN(options.calibration,
                     ReadCalibration(parsed.String("calibration"), model,
                                     parsed.Int("calibration-tokens"),
                                     checkpoint->config().vocab_size));
  }
  ASSIGN_OR_RETURN(const auto environment, kernels::Environment::Create(workers));
  const std::atomic<bool>* const stop = interrupt->Watch();
  if (gguf != nullptr) return WriteGguf(*checkpoint, model, *gguf, std::move(options), environment.get(), out, stop);
  return WriteFolder(*checkpoint, model, options, environment.get(), out, stop);
}

}  // namespace

CommandText DescribeQuantize() { return {kQuantizeHelp, QuantizeTable()}; }

int RunQuantize(const std::vector<std::string>& words) {
  const auto options = ParseOptions(QuantizeTable(), words, 2);
  if (!options) return UsageError(kQuantizeHelp, "tiercel quantize", options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(QuantizeTable(), kQuantizeHelp, "all").c_str(), stdout);
    return kExitOk;
  }
  if (options->positional().size() != 2) {
    return UsageError(kQuantizeHelp, "tiercel quantize", "the following arguments are required: MODEL, OUT");
  }
  const Environ environ = ReadEnviron();
  if (const Status status = options::CheckEnvironValues(environ); !status.ok()) return Failure("tiercel quantize", status);
  InitLogging(options::EnvLogLevel(environ));
  Interrupt interrupt;
  const Status status = Quantize(*options, environ, &interrupt);
  if (status.code() == StatusCode::kCancelled && interrupt.stopped()) {
    std::fprintf(stderr, "tiercel quantize: interrupted; nothing is left of %s\n", options->positional()[1].c_str());
    return Interrupt::kExitCode;
  }
  return status.ok() ? kExitOk : Failure("tiercel quantize", status);
}

}  // namespace tiercel::tools
