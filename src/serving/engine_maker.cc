#include "serving/engine_maker.h"

#include <algorithm>
#include <filesystem>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "platform/topology.h"
#include "serving/model_loading.h"
#include "serving/progress_bar.h"
#include "serving/serving_model.h"

namespace tiercel::serving {
namespace {

std::vector<kernels::Environment*> Pointers(const kernels::Environments& environments) {
  std::vector<kernels::Environment*> each;
  for (const auto& environment : environments) each.push_back(environment.get());
  return each;
}

bool SameForm(const model::WeightOptions& a, const model::WeightOptions& b) {
  return a.quantize == b.quantize && a.quantize_lm_head == b.quantize_lm_head && a.keep_blocks == b.keep_blocks &&
         a.mix_static == b.mix_static && a.kv_dtype == b.kv_dtype;
}

int64_t BytesOf(const model::LoadedWeights& loaded) {
  int64_t bytes = 0;
  for (const model::Weights& rank : *loaded.each[0]) bytes += rank.bytes_in_memory;
  return bytes;
}

}  // namespace

// What is kept beside the weights in use takes no more than the memory that is left has several times.
void EngineMaker::MakeRoom() {
  constexpr int64_t kShare = 4;
  while (!kept_.empty()) {
    const auto topology = platform::Topology::Detect();
    if (topology && kept_.size() < 3 && topology->memory_available / kShare > BytesOf(kept_.back().loaded)) return;
    kept_.pop_back();
  }
}

Expected<EngineMaker::Kept*> EngineMaker::Find(const ServeConfig& config) {
  const auto there = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) {
    return SameForm(kept.weights, config.load.weights) && kept.ranks == config.environment.ranks &&
           kept.engines == config.environment.engines;
  });
  if (there != kept_.end()) {
    kept_.splice(kept_.begin(), kept_, there);
    return &kept_.front();
  }
  MakeRoom();
  ASSIGN_OR_RETURN(const std::unique_ptr<checkpoint::Checkpoint> checkpoint, OpenCheckpoint(config, path_));
  std::error_code error;
  ASSIGN_OR_RETURN(const Runner runner,
                   ResolveRunner(config.runner, checkpoint->config(),
                                 std::filesystem::is_directory(path_, error) ? path_ : std::string()));
  if (runner.task != RunnerTask::kGenerate) {
    return Unexpected(InvalidArgument("{}: expected a model that generates text", config.model));
  }
  Kept kept;
  kept.weights = config.load.weights;
  kept.ranks = config.environment.ranks;
  kept.engines = config.environment.engines;
  ASSIGN_OR_RETURN(kept.environments, kernels::CreateEnvironments(config.environment));
  model::WeightOptions options =
      ResolveWeightOptions(config, *checkpoint, path_, environ_, *kept.environments[0]);
  options.cancelled = stop_;
  {
    // Later ones belong to what is measured, which has a bar of its own.
    ProgressBar bar("Loading weights", config.progress_bar && loads_ == 0);
    ASSIGN_OR_RETURN(kept.loaded,
                     model::LoadSharedWeights(*checkpoint, options, Pointers(kept.environments),
                                              [&](int64_t done, int64_t total) { bar.Update(done, total); }));
  }
  ++loads_;
  kept_.push_front(std::move(kept));
  return &kept_.front();
}

Expected<std::unique_ptr<engine::Engine>> EngineMaker::Make(const ServeConfig& config) {
  ASSIGN_OR_RETURN(Kept* const kept, Find(config));
  const std::vector<kernels::Environment*> each = Pointers(kept->environments);
  RETURN_IF_ERROR(engine::CheckOptions(config.engine, kept->loaded.config.DerivedMaxModelLen()));
  return MakeEngine(config.engine, each, model::MakeModels(kept->loaded, config.load, each));
}

}  // namespace tiercel::serving
