// Small text files of a model folder.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"

namespace tiercel::text {

// The whole file; nullopt if there is none. Errors name the file: a link that leads nowhere, empty, not
// readable, or larger than `max_bytes`.
Expected<std::optional<std::string>> ReadFileIfPresent(const std::string& path, size_t max_bytes);

}  // namespace tiercel::text
