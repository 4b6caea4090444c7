// Errors of a chat's body in the words of the body of another protocol that was turned into it.
#pragma once

#include <span>
#include <string_view>

#include "api/errors.h"

namespace tiercel::api {

// A field of a chat, and what the client wrote it as.
struct OwnName {
  std::string_view chat, own;
};

// Renames the parameter, and where the message names it: not in plain words, nor in the value that it repeats.
ApiError InOwnNames(ApiError error, std::span<const OwnName> names);

}  // namespace tiercel::api
