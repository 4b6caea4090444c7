#include "serving/runner.h"

#include <optional>

#include "checkpoint/pooling_modules.h"

namespace tiercel::serving {
namespace {

using Modules = std::optional<checkpoint::PoolingModules>;

bool IsClassifier(const checkpoint::ModelConfig& config) { return config.pooling.num_labels > 0; }

// vLLM's rule: the name of the architecture, or a folder of Sentence Transformers.
bool Pools(const RunnerFlags& flags, const checkpoint::ModelConfig& config, const Modules& modules) {
  if (flags.runner != "auto") return flags.runner == "pooling";
  if (flags.convert == "embed" || flags.convert == "classify") return true;
  return modules.has_value() || IsClassifier(config) || config.architecture.ends_with("Model");
}

Expected<RunnerTask> TaskOf(const RunnerFlags& flags, const checkpoint::ModelConfig& config) {
  if (flags.convert == "embed") return RunnerTask::kEmbed;
  if (IsClassifier(config)) return RunnerTask::kClassify;
  if (flags.convert == "classify") {
    return Unexpected(InvalidArgument(
        "argument --convert: classify: the model ({}) has no classifier; name its architecture and "
        "tokens, as in --hf-overrides '{{\"architectures\": [\"Qwen3ForSequenceClassification\"], "
        "\"classifier_from_token\": [\"no\", \"yes\"]}}'",
        config.architecture));
  }
  return RunnerTask::kEmbed;
}

}  // namespace

Expected<RunnerFlags> ReadRunnerFlags(const ParsedOptions& options,
                                      std::vector<std::string>* notices) {
  RunnerFlags flags;
  flags.runner = options.String("runner");
  flags.convert = options.String("convert");
  // --task, the older flag for both.
  const std::string task = options.String("task");
  if (task == "generate") flags.runner = "generate";
  if (task != "auto") flags.runner = task == "generate" ? "generate" : "pooling";
  if (task == "embed" || task == "embedding") flags.convert = "embed";
  if (options.Given("pooler-config")) {
    ASSIGN_OR_RETURN(flags.pooler, ReadPoolerConfig(options.String("pooler-config"), notices));
  }
  return flags;
}

Expected<Runner> ResolveRunner(const RunnerFlags& flags, const checkpoint::ModelConfig& config,
                               const std::string& folder) {
  Modules modules;
  if (!folder.empty() && flags.runner != "generate") {
    ASSIGN_OR_RETURN(modules, checkpoint::ReadPoolingModules(folder));
  }
  Runner runner;
  if (!Pools(flags, config, modules)) {
    if (!IsClassifier(config)) return runner;
    return Unexpected(InvalidArgument("This model does not support `--runner generate`: {} gives labels",
                                      config.architecture));
  }
  ASSIGN_OR_RETURN(runner.task, TaskOf(flags, config));
  runner.use_activation = flags.pooler.use_activation.value_or(
      runner.task == RunnerTask::kClassify || !modules || modules->normalize);
  runner.dimensions = runner.task == RunnerTask::kEmbed ? flags.pooler.dimensions : 0;
  if (runner.dimensions > config.hidden_size) {
    return Unexpected(InvalidArgument("--pooler-config.dimensions: found {}, expected at most {}",
                                      runner.dimensions, config.hidden_size));
  }
  return runner;
}

}  // namespace tiercel::serving
