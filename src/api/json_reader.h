// From untrusted text to a Json, with bounds.
#pragma once

#include <cstdint>
#include <string_view>

#include "api/bounds.h"
#include "api/json.h"
#include "base/status.h"

namespace tiercel::api {

struct JsonLimits {
  int max_depth = kMaxJsonDepth;
  int64_t max_values = kMaxJsonValues;  // keys count as well
  int64_t max_object_keys = kMaxObjectKeys;
};

// Refuses what is not exactly one JSON value (RFC 8259) of valid UTF-8 within the limits; the message
// names the byte, from 1. NaN, Infinity and halves of surrogate pairs are no JSON. Of duplicate keys
// the last value wins, at the first one's place. `num_values`, if given, becomes what the text has of
// max_values.
Expected<Json> ParseJson(std::string_view text, const JsonLimits& limits = {},
                         int64_t* num_values = nullptr);

}  // namespace tiercel::api
