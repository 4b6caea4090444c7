// FieldPlaces: where the fields of a configuration stand, for messages: in the file, which may have names of its own for them,
// or in --hf-overrides.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "checkpoint/json_fields.h"

namespace tiercel::checkpoint {

// A file's own name of config.json's field, as "qwen3.block_count" of num_hidden_layers; of what lies in an object it is asked
// for "rope_scaling.factor".
using OwnNames = std::function<std::string(std::string_view field)>;

class FieldPlaces {
 public:
  // Of the file as it is, before `overrides` are merged into it. `names` is empty where it has config.json's.
  FieldPlaces(std::string path, const Json& file, Json overrides, OwnNames names);

  // "dir/config.json: rope_scaling: factor", of the field `key` of `object` ("" for the whole).
  std::string Of(std::string_view object, std::string_view key) const;

 private:
  bool IsOverridden(std::string_view object, std::string_view key) const;

  const std::string path_;
  std::set<std::string, std::less<>> objects_;  // that the file has
  const Json overrides_;
  const OwnNames names_;
};

// The fields of `object`, whose messages begin with their places. All must outlive the result.
JsonFields FieldsOf(const Json& fields, const FieldPlaces& places, const std::string& object);

}  // namespace tiercel::checkpoint
