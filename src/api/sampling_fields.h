// The fields that several endpoints share, read and checked.
#pragma once

#include <optional>

#include "api/fields.h"
#include "api/request.h"

namespace tiercel::api {

// Those of all bodies with prompts; as ReadGenerationFields.
std::optional<ApiError> ReadBaseFields(Fields& fields, const ApiOptions& options,
                                       RequestBase* request);

// Fills `request` from the body. Ill-typed fields go to the Fields' SchemaErrors; the returned
// error is the first wrong value or the first field that is not offered.
std::optional<ApiError> ReadGenerationFields(Fields& fields, const ApiOptions& options,
                                             GenerationRequest* request);

// Refuses what has no meaning for a request with use_beam_search.
std::optional<ApiError> CheckBeamSearch(const GenerationRequest& request);

// Refuses fields that are understood and not offered (watermarks, LoRA, …);
// warns of removed ones that vLLM ignores as well (guided_json, …).
std::optional<ApiError> RefuseUnofferedFields(Fields& fields);

// Logs (debug) the names that no reader asked for: they are accepted and ignored.
void NoteUnreadFields(const Fields& fields);

}  // namespace tiercel::api
