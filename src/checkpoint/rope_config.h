// RoPE settings of a config.json, in all its spellings.
#pragma once

#include <string>

#include "base/status.h"
#include "checkpoint/config.h"
#include "checkpoint/field_places.h"
#include "checkpoint/json_fields.h"

namespace tiercel::checkpoint {

constexpr int64_t kMaxPosition = 1 << 28;

// Merges `overrides` (--hf-overrides) into `config`, objects field by field. Where the two spell
// the same RoPE setting differently, the override's spelling is the one that is left.
void MergeOverrides(Json overrides, Json& config);

// From rope_scaling (`rope_type` or `type`), or newer files' rope_parameters, and rope_theta at
// either place. As in vLLM, rope_scaling wins where both are set. An unknown type is an error, and so is none beside
// what scales.
Expected<RopeConfig> ParseRopeConfig(const Json& config, const FieldPlaces& places,
                                     int64_t max_position_embeddings);

}  // namespace tiercel::checkpoint
