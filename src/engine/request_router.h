// RequestRouter: which of several engines a request goes to. Pure logic: no engines, threads or time.
//
// It goes where the fewest tokens have to be computed until it has its answer, as far as is known: those of
// the engine's unfinished requests, and what its prefix cache does not spare the new one. So prompts of
// one beginning meet in the engine that has it, unless others wait there so long that computing it anew is
// sooner done. Among equals the engine is taken that was taken longest ago.
//
// What an engine's prefix cache holds is estimated: the blocks of the prompts that went there, as many as
// the cache has, the least recently used forgotten first. Not thread-safe.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/prefix_hash.h"

namespace tiercel::engine {

class RequestRouter {
 public:
  struct Work {
    int64_t prompt_tokens = 0;
    int64_t output_tokens = 0;  // of all samples, at most
    int samples = 1;
    std::span<const BlockHash> blocks;  // the prompt's full blocks in order; empty: nothing is cached
  };
  // What a request counts for its engine until Finish.
  struct Ticket {
    int engine = 0;
    int64_t prompt_tokens = 0;  // that are still to be computed
    int64_t output_tokens = 0;
  };

  // `cache_blocks`: of each engine.
  RequestRouter(int num_engines, int64_t cache_blocks, int block_size);

  // Chooses, counts the work, and notes the blocks. Throws std::bad_alloc, and then nothing is counted.
  Ticket Route(const Work& work);
  // Its prompt has been computed.
  void PromptDone(Ticket* ticket);
  // It has ended: nothing of it counts any more. Harmless where it has been called before.
  void Finish(Ticket* ticket);
  // The engine's prefix cache is empty now.
  void Forget(int engine);

  int64_t tokens_left(int engine) const { return engines_[static_cast<size_t>(engine)].tokens_left; }

 private:
  struct Engine {
    std::list<BlockHash> recent;  // last used first
    std::unordered_map<BlockHash, std::list<BlockHash>::iterator, BlockHashHasher> known;
    int64_t tokens_left = 0;
    uint64_t last_taken = 0;
  };

  int64_t CachedTokens(const Engine& engine, const Work& work) const;
  void Note(Engine* engine, std::span<const BlockHash> blocks);

  const int64_t cache_blocks_;
  const int64_t block_size_;
  std::vector<Engine> engines_;
  uint64_t num_routed_ = 0;
};

}  // namespace tiercel::engine
