// What config.json says of its weights' quantization, whichever method's reader it is for.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "checkpoint/json_fields.h"

namespace tiercel::checkpoint {

struct QuantizationSection {
  Json config;        // an object
  std::string where;  // for messages: "config.json: quantization_config"
};

// quantization_config, or compression_config as compressed-tensors of old had it, with --hf-overrides merged in; nothing
// if there is neither. `path` is config.json's, for messages.
Expected<std::optional<QuantizationSection>> ReadQuantizationSection(std::string_view config_json,
                                                                     std::string_view hf_overrides,
                                                                     const std::string& path);

}  // namespace tiercel::checkpoint
