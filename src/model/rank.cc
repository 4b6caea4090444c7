#include "model/rank.h"

#include <algorithm>

namespace tiercel::model {

Range HeadsOf(const checkpoint::ModelConfig& config, Rank rank) {
  return SplitRange(config.num_heads, 1, {rank.index, rank.count});
}

Range KvHeadsOf(const checkpoint::ModelConfig& config, Rank rank) {
  const int64_t begin = config.num_kv_heads * rank.index / rank.count;
  return {begin, begin + std::max<int64_t>(1, config.num_kv_heads / rank.count)};
}

Range InnerColumnsOf(const checkpoint::ModelConfig& config, Rank rank) {
  return SplitRange(config.intermediate_size, kColumnGroup, {rank.index, rank.count});
}

Range VocabularyOf(const checkpoint::ModelConfig& config, Rank rank) {
  return SplitRange(config.vocab_size, kColumnGroup, {rank.index, rank.count});
}

int64_t HeadColumnsOf(const checkpoint::ModelConfig& config, Rank rank) {
  return (VocabularyOf(config, rank).size() + kColumnGroup - 1) / kColumnGroup * kColumnGroup;
}

checkpoint::ModelConfig PartOf(const checkpoint::ModelConfig& config, Rank rank) {
  checkpoint::ModelConfig part = config;
  part.num_heads = HeadsOf(config, rank).size();
  part.num_kv_heads = KvHeadsOf(config, rank).size();
  part.intermediate_size = InnerColumnsOf(config, rank).size();
  return part;
}

}  // namespace tiercel::model
