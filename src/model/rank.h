// Which part of a model one rank of a tensor-parallel group holds and computes: whole attention heads, a
// run of the MLP's inner columns, a run of the vocabulary. Norms and the residual stream every rank has.
#pragma once

#include <cstdint>

#include "checkpoint/config.h"
#include "comm/collectives.h"
#include "tensor/packed_matrix.h"

namespace tiercel::model {

using comm::Rank;

// Query heads, and the KV heads that they read: of fewer KV heads than ranks several ranks have the same.
Range HeadsOf(const checkpoint::ModelConfig& config, Rank rank);
Range KvHeadsOf(const checkpoint::ModelConfig& config, Rank rank);
// In whole groups of packed columns.
Range InnerColumnsOf(const checkpoint::ModelConfig& config, Rank rank);
Range VocabularyOf(const checkpoint::ModelConfig& config, Rank rank);
// Of its head, as it is packed.
int64_t HeadColumnsOf(const checkpoint::ModelConfig& config, Rank rank);

// The configuration with the rank's numbers of heads and inner columns: its forward pass is that of a
// narrower model. `config` has passed CheckTensorParallelSize.
checkpoint::ModelConfig PartOf(const checkpoint::ModelConfig& config, Rank rank);

}  // namespace tiercel::model
