// What a model is run for: tokens, vectors or labels. From --runner, --convert, --task and
// --pooler-config, and from the model's files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "checkpoint/config.h"
#include "options/option_parser.h"
#include "serving/json_configs.h"

namespace tiercel::serving {

using options::ParsedOptions;

struct RunnerFlags {
  std::string runner = "auto", convert = "auto";
  PoolerConfig pooler;
};

// `notices` gets one line for each setting that has no effect here.
Expected<RunnerFlags> ReadRunnerFlags(const ParsedOptions& options, std::vector<std::string>* notices);

enum class RunnerTask { kGenerate, kEmbed, kClassify };

struct Runner {
  RunnerTask task = RunnerTask::kGenerate;
  bool use_activation = true;  // where a request does not say
  int64_t dimensions = 0;      // of vectors, where a request does not say; 0: all
};

// `folder` holds the model's files; empty for a GGUF file.
Expected<Runner> ResolveRunner(const RunnerFlags& flags, const checkpoint::ModelConfig& config,
                               const std::string& folder);

}  // namespace tiercel::serving
