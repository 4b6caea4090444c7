// ServeConfig: what `tiercel serve` was asked to do, typed. The one place that maps flags and
// variables to the options of the layers below.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "engine/engine.h"
#include "hub/hub.h"
#include "kernels/environment.h"
#include "model/load_model.h"
#include "options/env_vars.h"
#include "options/option_parser.h"
#include "server/server.h"
#include "serving/job.h"
#include "serving/otlp_target.h"
#include "serving/runner.h"
#include "text/tokenizer.h"

namespace tiercel::serving {

using hub::HubOptions;
using options::ParsedOptions;

enum class LoadFormat {
  kAuto,
  kSafetensors,
  kGguf,
  kDummy,
  kPacked,  // kAuto, with packed weights that are kept
};

// Where sampling defaults come from: --generation-config and --override-generation-config.
struct GenerationDefaults {
  std::string source = "auto";  // auto, vllm, or a folder
  std::string override_json = "{}";
};

struct ServeConfig {
  std::string model;      // as given: a folder, a .gguf file, or a hub id
  std::string tokenizer;  // empty: the model's
  HubOptions hub;
  std::string tokenizer_revision;
  text::TokenizerOptions tokenizer_options;
  std::string hf_overrides;  // JSON object, or empty
  RunnerFlags runner;
  std::string quantization;  // as given; empty: what the model's files say
  LoadFormat load_format = LoadFormat::kAuto;
  bool progress_bar = true;
  // The tiercel program, which renders templates: a library in someone else's process has to name it.
  std::string program = "/proc/self/exe";
  std::string chat_template;  // a file or the text; empty: the model's
  GenerationDefaults generation;
  int64_t tensor_parallel_size = 1;  // checked against the model
  kernels::EnvironmentOptions environment;  // ranks: as many, or one for a backend without ranks
  int data_parallel_size = 1;  // of all engines, those of other processes included

  engine::EngineOptions engine;
  model::LoadOptions load;
  server::ServerOptions server;
  double shutdown_timeout = 0;
  std::optional<OtlpTarget> traces;
  std::optional<JobConfig> job;  // of several processes

  LogLevel log_level = LogLevel::info;
  std::string non_default_args;        // "{'port': 8113, …}", for the log
  std::vector<std::string> warnings;   // to be logged once, in this order
};

// The user's fault is kInvalidArgument and names the flag.
Expected<ServeConfig> MakeServeConfig(const ParsedOptions& options, const Environ& environ);

// Eight hex digits that tell texts apart which no one chose to collide.
std::string ShortHash(std::string_view text);

}  // namespace tiercel::serving
