// Names: of models, as requests give them, and of requests.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/errors.h"
#include "api/options.h"

namespace tiercel::api {

// The 404 for a model that is not served; empty names the first one.
std::optional<ApiError> CheckModel(const std::string& name, const ModelInfo& model);

// Now, as `created` has it.
int64_t UnixSeconds();

// 32 random hex digits.
std::string RandomId();
// Letters, digits and "-_.:" only, at most 128 of them: safe in headers, logs and chunks.
bool IsPlainId(std::string_view id);
// An answer's: the header's id (already checked) behind `prefix`, else the body's if it is plain,
// else a random one.
std::string AnswerId(std::string_view prefix, std::string_view header_id, std::string_view body_id);

}  // namespace tiercel::api
