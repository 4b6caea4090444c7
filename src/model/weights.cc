#include "model/weights.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "model/weight_loader.h"

namespace tiercel::model {
namespace {

// One dispatch; the workers go through the matrices together so that a matrix's file pages can be
// dropped once all have read them.
Status PackAll(const std::vector<std::unique_ptr<WeightLoader>>& ranks, const WeightOptions& options,
               platform::WorkerTeam& team, LoadProgress progress) {
  const int rank_size = team.size() / team.ranks();
  const size_t jobs = ranks[0]->num_jobs();
  int64_t total = 0;
  for (const auto& rank : ranks) total += rank->total();
  std::vector<Status> status(static_cast<size_t>(team.size()));
  progress(0, total);
  team.Run([&](int worker) {
    const WeightLoader& rank = *ranks[static_cast<size_t>(worker / rank_size)];
    Status& mine = status[static_cast<size_t>(worker)];
    for (size_t i = 0; i < jobs; ++i) {
      if (worker == 0 && i + 1 < jobs) rank.WillNeed(i + 1);
      if (options.cancelled != nullptr && *options.cancelled) {
        mine = Status(StatusCode::kCancelled, "loading was cancelled");
      }
      if (mine.ok()) mine = rank.Pack(i, worker % rank_size);
      team.BarrierOfRanks();
      if (worker != 0) continue;
      rank.DontNeed(i);
      int64_t done = 0;
      for (const auto& each : ranks) done += each->BytesUpTo(i);
      progress(done, total);
    }
  });
  for (Status& s : status) RETURN_IF_ERROR(std::move(s));
  return OkStatus();
}

// What every rank has from an earlier start; false: some have none.
bool MapAll(const std::vector<std::unique_ptr<WeightLoader>>& ranks, platform::WorkerTeam& team, LoadProgress progress) {
  std::vector<MappedWeights> found;
  for (const auto& rank : ranks) {
    auto mapped = rank->FindPacked();
    if (!mapped) return false;
    found.push_back(std::move(*mapped));
  }
  for (size_t i = 0; i < ranks.size(); ++i) ranks[i]->Take(std::move(found[i]));
  LOG_INFO("The packed weights of an earlier start are mapped: {}", ranks[0]->PackedPath());
  const int rank_size = team.size() / team.ranks();
  const int64_t total = ranks[0]->total();
  team.Run([&](int worker) {
    ranks[static_cast<size_t>(worker / rank_size)]->ReadAhead(worker % rank_size, [&](int64_t done) {
      if (worker == 0) progress(std::min(done * rank_size, total), total);
    });
  });
  progress(total, total);
  return true;
}

// A failure costs the next start its time, no more.
void WriteAll(const std::vector<std::unique_ptr<WeightLoader>>& ranks, LoadProgress progress) {
  int64_t total = 0, before = 0;
  for (const auto& rank : ranks) total += rank->total();
  for (const auto& rank : ranks) {
    const Status status = rank->WritePacked([&](int64_t done) { progress(total + before + done, 2 * total); });
    if (!status.ok()) LOG_WARNING("--load-format packed: {}: the next start packs again", status.message());
    before += rank->total();
  }
}

}  // namespace

Expected<Weights> LoadWeights(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options,
                              platform::WorkerTeam& team, LoadProgress progress) {
  CHECK_EQ(team.ranks(), 1);
  ASSIGN_OR_RETURN(std::vector<Weights> ranks, LoadRanks(checkpoint, options, team, progress));
  return std::move(ranks[0]);
}

Expected<std::vector<Weights>> LoadRanks(const checkpoint::Checkpoint& checkpoint, const WeightOptions& options,
                                         platform::WorkerTeam& team, LoadProgress progress) {
  CHECK(options.shares.empty() || std::ssize(options.shares) == team.size());
  WeightOptions of_rank = options;
  of_rank.max_bytes_in_memory /= team.ranks();
  std::vector<std::unique_ptr<WeightLoader>> loaders;
  const auto places = comm::RankPlaces::Of(options.process, options.stages, team.ranks());
  for (int r = 0; r < team.ranks(); ++r) {
    loaders.push_back(std::make_unique<WeightLoader>(checkpoint, of_rank, places, places.RankHere(r),
                                               team.size() / team.ranks()));
    RETURN_IF_ERROR(loaders.back()->Plan());
  }
  const bool is_asked = !options.packed.path.empty();
  const bool keeps = is_asked && loaders[0]->fits_in_memory();
  if (is_asked && !keeps) {
    LOG_WARNING("--load-format packed: the weights do not fit into memory and are packed at every start");
  }
  if (!keeps || !MapAll(loaders, team, progress)) {
    for (const auto& loader : loaders) RETURN_IF_ERROR(loader->Allocate());
    RETURN_IF_ERROR(PackAll(loaders, options, team, [&](int64_t done, int64_t total) { progress(done, keeps ? 2 * total : total); }));
    if (keeps) WriteAll(loaders, progress);
  }
  std::vector<Weights> weights;
  for (const auto& loader : loaders) weights.push_back(loader->TakeWeights());
  // What all read tokens' rows from.
  std::vector<PackedMatrix> packed;
  if (weights[0].block_embedding.weight.n > 0) {
    packed.push_back(weights[0].block_embedding.weight);
  } else if (weights[0].embedding == nullptr) {
    for (const Weights& rank : weights) packed.push_back(rank.lm_head.weight);
  }
  for (Weights& rank : weights) {
    rank.embedding = weights[0].embedding;
    if (rank.embedding == nullptr) rank.packed_embedding = packed;
  }
  return weights;
}

}  // namespace tiercel::model
