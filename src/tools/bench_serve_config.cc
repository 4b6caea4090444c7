#include "tools/bench_serve_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "api/json_reader.h"
#include "base/ascii_case.h"
#include "base/split.h"
#include "options/human_int.h"
#include "serving/serve_checks.h"
#include "tools/bench_data.h"

namespace tiercel::tools {
namespace {

using api::Json;

// A flag's KEY=VALUE words.
Expected<std::vector<std::pair<std::string, std::string>>> Pairs(const ParsedOptions& options,
                                                                 const char* flag) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const std::string& word : options.Strings(flag)) {
    const size_t at = word.find('=');
    if (at == std::string::npos || at == 0) {
      return Unexpected(
          InvalidArgument("argument --{}: found '{}', expected KEY=VALUE", flag, word));
    }
    pairs.emplace_back(word.substr(0, at), word.substr(at + 1));
  }
  return pairs;
}

// A positive number, or inf.
Expected<double> PositiveOrInf(const ParsedOptions& options, const char* flag) {
  const std::string text = options.String(flag);
  if (text == "inf") return std::numeric_limits<double>::infinity();
  const auto value = options::ParseFloat(text);
  if (value && *value > 0) return *value;
  return Unexpected(
      InvalidArgument("argument --{}: found '{}', expected a positive number or inf", flag, text));
}

Expected<int64_t> AtLeast(const ParsedOptions& options, const char* flag, int64_t low) {
  const int64_t value = options.Int(flag);
  if (value >= low) return value;
  return Unexpected(
      InvalidArgument("argument --{}: found {}, expected at least {}", flag, value, low));
}

Status FillTraffic(const ParsedOptions& options, bench::ServeRun* run) {
  ASSIGN_OR_RETURN(run->traffic.request_rate, PositiveOrInf(options, "request-rate"));
  ASSIGN_OR_RETURN(run->traffic.burstiness, PositiveOrInf(options, "burstiness"));
  if (options.Given("max-concurrency")) {
    ASSIGN_OR_RETURN(run->max_concurrency, AtLeast(options, "max-concurrency", 1));
  }
  const std::string strategy = options.String("ramp-up-strategy");
  if (strategy.empty()) return OkStatus();
  if (!std::isinf(run->traffic.request_rate)) {
    return InvalidArgument(
        "argument --ramp-up-strategy: it sets the rate; leave --request-rate out");
  }
  if (!options.Given("ramp-up-start-rps") || !options.Given("ramp-up-end-rps")) {
    return InvalidArgument(
        "argument --ramp-up-strategy: expected --ramp-up-start-rps and --ramp-up-end-rps with it");
  }
  bench::RampUp ramp_up{strategy == "exponential"};
  // A rate of 0 would never send the first request.
  ASSIGN_OR_RETURN(ramp_up.start_rps, AtLeast(options, "ramp-up-start-rps", 1));
  ASSIGN_OR_RETURN(ramp_up.end_rps, AtLeast(options, "ramp-up-end-rps", ramp_up.start_rps));
  run->traffic.ramp_up = ramp_up;
  return OkStatus();
}

Status FillMetrics(const ParsedOptions& options, BenchServeConfig* config) {
  const std::vector<std::string>& names = bench::PercentileMetricNames();
  config->run.percentile_metrics.clear();
  const std::string wanted = options.String("percentile-metrics");
  for (const std::string_view name : Split(wanted, ',')) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      return InvalidArgument("argument --percentile-metrics: found '{}', expected of {}", name,
                             fmt::join(names, ", "));
    }
    config->run.percentile_metrics.emplace_back(name);
  }
  config->metrics.percents.clear();
  const std::string percentiles = options.String("metric-percentiles");
  for (const std::string_view text : Split(percentiles, ',')) {
    const auto percent = options::ParseFloat(std::string(text));
    if (!percent || *percent < 0 || *percent > 100) {
      return InvalidArgument("argument --metric-percentiles: found '{}', expected 0 … 100", text);
    }
    config->metrics.percents.push_back(*percent);
  }
  for (const std::string& word : options.Strings("goodput")) {
    const std::vector<std::string_view> parts = Split(word, ':');
    const auto bound = parts.size() == 2 ? options::ParseFloat(std::string(parts[1])) : Expected<double>(-1);
    const bool known = parts[0] == "ttft" || parts[0] == "tpot" || parts[0] == "e2el";
    if (!known || !bound || *bound < 0) {
      return InvalidArgument(
          "argument --goodput: found '{}', expected ttft, tpot or e2el and a number of "
          "milliseconds, as in ttft:200",
          word);
    }
    config->metrics.goodput_ms[std::string(parts[0])] = *bound;
  }
  return OkStatus();
}

// Replaces what has the same name.
void SetHeader(net::HttpHeaders* headers, const std::string& name, const std::string& value) {
  std::erase_if(*headers, [&](const auto& header) { return EqualsNoCase(header.first, name); });
  headers->emplace_back(name, value);
}

Status FillTarget(const ParsedOptions& options, const Environ& environ, BenchServeConfig* config) {
  bench::Target& target = config->target;
  target.chat = config->run.backend == "openai-chat";
  config->base_url = options.String("base-url");
  while (config->base_url.ends_with('/')) config->base_url.pop_back();
  if (config->base_url.empty()) {
    ASSIGN_OR_RETURN(const int64_t port, AtLeast(options, "port", 1));
    std::string host = options.String("host");
    if (host.find(':') != std::string::npos && !host.starts_with('[')) host = "[" + host + "]";
    config->base_url = fmt::format("http://{}:{}", host, port);
  }
  std::string endpoint = options.String("endpoint");
  if (endpoint.empty()) endpoint = target.chat ? "/v1/chat/completions" : "/v1/completions";
  if (target.chat != endpoint.ends_with("chat/completions") || !endpoint.ends_with("completions")) {
    return InvalidArgument(
        "argument --endpoint: found '{}', expected one that ends with {} for --backend {}",
        endpoint, target.chat ? "chat/completions" : "completions", config->run.backend);
  }
  target.url = config->base_url + (endpoint.starts_with('/') ? "" : "/") + endpoint;
  target.model = options.Given("served-model-name") ? options.String("served-model-name")
                                                    : options.String("model");
  if (const std::string key = EnvValue(environ, "OPENAI_API_KEY"); !key.empty()) {
    target.headers.emplace_back("Authorization", "Bearer " + key);
  }
  ASSIGN_OR_RETURN(const auto headers, Pairs(options, "header"));
  for (const auto& [name, value] : headers) SetHeader(&target.headers, name, value);
  // The prompts are random, so an end would be as well.
  target.ignore_eos = options.On("ignore-eos") || config->data_set.name == "random";
  if (options.Given("logprobs")) target.logprobs = options.Int("logprobs");
  return OkStatus();
}

Status FillSampling(const ParsedOptions& options, BenchServeConfig* config) {
  Json body(Json::Object{});
  struct Field {
    const char *flag, *name;
    bool whole = false;
  };
  for (const auto& [flag, name, whole] :
       {Field{"temperature", "temperature"}, Field{"top-p", "top_p"}, Field{"top-k", "top_k", true},
        Field{"min-p", "min_p"}, Field{"frequency-penalty", "frequency_penalty"},
        Field{"presence-penalty", "presence_penalty"},
        Field{"repetition-penalty", "repetition_penalty"}}) {
    if (!options.Given(flag)) continue;
    body.Set(name, whole ? Json(options.Int(flag)) : Json(options.Float(flag)));
  }
  if (!options.Given("temperature")) {
    config->warnings.push_back(
        "the server's default temperature applies; for greedy answers give --temperature 0");
  }
  if (options.Given("extra-body")) {
    ASSIGN_OR_RETURN(const Json extra, api::ParseJson(options.String("extra-body")));
    for (const Json::Member& member : *extra.object()) body.Set(member.key, member.value);
  }
  config->target.extra_body = *body.object();
  return OkStatus();
}

std::string RandomPrefix() {
  return fmt::format("bench-{:08x}-", static_cast<uint32_t>(std::random_device()()));
}

}  // namespace

Expected<BenchServeConfig> MakeBenchServeConfig(const ParsedOptions& options,
                                                const Environ& environ) {
  BenchServeConfig config;
  config.warnings = options.warnings();
  RETURN_IF_ERROR(serving::CheckEffects(options, &config.warnings));
  config.model = options.String("model");
  config.tokenizer = options.String("tokenizer");
  config.template_kwargs = options.String("chat-template-kwargs");
  ASSIGN_OR_RETURN(config.data_set, DataSetFromFlags(options));
  config.run.backend = options.String("backend");
  if (options.Given("label")) config.run.label = options.String("label");
  config.run.num_prompts = config.data_set.num_prompts;
  ASSIGN_OR_RETURN(config.run.metadata, Pairs(options, "metadata"));
  RETURN_IF_ERROR(FillTraffic(options, &config.run));
  RETURN_IF_ERROR(FillMetrics(options, &config));
  RETURN_IF_ERROR(FillTarget(options, environ, &config));
  RETURN_IF_ERROR(FillSampling(options, &config));
  if (config.target.chat) config.data_set.apply_chat_template = false;

  config.http = net::HttpClientOptions::FromEnviron(environ);
  config.http.verify_peer = !options.On("insecure");
  // A server that has much to do lets requests wait; Ctrl-C ends that. vLLM's client waits as long.
  config.http.stall_timeout_s = 6 * 3600;
  config.http.connect_timeout_s = 60;
  config.request_id_prefix =
      options.Given("request-id-prefix") ? options.String("request-id-prefix") : RandomPrefix();
  ASSIGN_OR_RETURN(config.num_warmups, AtLeast(options, "num-warmups", 0));
  if (config.num_warmups > bench::kMaxPrompts) {
    return Unexpected(InvalidArgument("argument --num-warmups: found {}, expected at most {}",
                                      config.num_warmups, bench::kMaxPrompts));
  }
  ASSIGN_OR_RETURN(const int64_t ready_s, AtLeast(options, "ready-check-timeout-sec", 0));
  config.ready_timeout_s = static_cast<double>(ready_s);
  config.progress_bar = !options.On("disable-tqdm");
  config.append = options.On("append-result");
  config.save = options.On("save-result") || config.append;
  config.detailed = options.On("save-detailed");
  config.result_dir = options.String("result-dir");
  config.plot = options.String("plot");
  config.result_filename = options.String("result-filename");
  return config;
}

}  // namespace tiercel::tools
