// The items of a conversation: what a request of /v1/responses gives, and what earlier responses have.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "api/errors.h"
#include "api/json.h"
#include "api/response_store.h"

namespace tiercel::api {

// The 404 of a response that is not kept.
ApiError NoSuchResponse(std::string_view id);

// Puts the items of an earlier response that has ended, its input and then its output, before those of *items.
std::optional<ApiError> PutConversationBefore(const KeptResponse& earlier, Json::Array* items);

// A conversation's items as the messages of a chat. Faults name the place behind the first `num_earlier`.
Result<Json::Array> MessagesOf(Json::Array items, size_t num_earlier);

}  // namespace tiercel::api
