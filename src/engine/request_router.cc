#include "engine/request_router.h"

#include <algorithm>

namespace tiercel::engine {
namespace {

// Of a sample's output so much counts. How long an answer becomes is not known before: most that may be
// long end early, by a stop token.
constexpr int64_t kExpectedOutput = 256;

}  // namespace

RequestRouter::RequestRouter(int num_engines, int64_t cache_blocks, int block_size)
    : cache_blocks_(cache_blocks), block_size_(block_size),
      engines_(static_cast<size_t>(num_engines)) {}

int64_t RequestRouter::CachedTokens(const Engine& engine, const Work& work) const {
  int64_t blocks = 0;
  for (const BlockHash& block : work.blocks) {
    if (!engine.known.contains(block)) break;
    ++blocks;
  }
  // The last token is always computed.
  return std::min(blocks * block_size_, std::max<int64_t>(0, work.prompt_tokens - 1));
}

RequestRouter::Ticket RequestRouter::Route(const Work& work) {
  Ticket ticket;
  ticket.output_tokens = std::min(work.output_tokens, work.samples * kExpectedOutput);
  Engine* best = nullptr;
  int64_t least = 0;
  for (Engine& engine : engines_) {
    const int64_t prompt = work.prompt_tokens - CachedTokens(engine, work);
    const int64_t left = engine.tokens_left + prompt;
    if (best != nullptr && (left > least || (left == least && engine.last_taken >= best->last_taken))) {
      continue;
    }
    best = &engine;
    least = left;
    ticket.prompt_tokens = prompt;
  }
  ticket.engine = static_cast<int>(best - engines_.data());
  Note(best, work.blocks);
  best->tokens_left += ticket.prompt_tokens + ticket.output_tokens;
  best->last_taken = ++num_routed_;
  return ticket;
}

// Last block first, so that the end of a prefix is forgotten before its beginning.
void RequestRouter::Note(Engine* engine, std::span<const BlockHash> blocks) {
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
    if (const auto known = engine->known.find(*block); known != engine->known.end()) {
      engine->recent.splice(engine->recent.begin(), engine->recent, known->second);
      continue;
    }
    std::list<BlockHash> node = {*block};
    engine->known.emplace(*block, node.begin());
    engine->recent.splice(engine->recent.begin(), node);
    if (std::ssize(engine->recent) > cache_blocks_) {
      engine->known.erase(engine->recent.back());
      engine->recent.pop_back();
    }
  }
}

void RequestRouter::PromptDone(Ticket* ticket) {
  engines_[static_cast<size_t>(ticket->engine)].tokens_left -= ticket->prompt_tokens;
  ticket->prompt_tokens = 0;
}

void RequestRouter::Finish(Ticket* ticket) {
  PromptDone(ticket);
  engines_[static_cast<size_t>(ticket->engine)].tokens_left -= ticket->output_tokens;
  ticket->output_tokens = 0;
}

void RequestRouter::Forget(int engine) {
  engines_[static_cast<size_t>(engine)].known.clear();
  engines_[static_cast<size_t>(engine)].recent.clear();
}

}  // namespace tiercel::engine
