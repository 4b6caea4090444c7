// Structs of tiercel.h that begin with their size: callers may have been built with an older or a
// newer header.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "base/status.h"

namespace tiercel::capi {

// The caller's struct as this library has it: fields that an older caller lacks are 0.
template <typename Struct>
Expected<Struct> ReadStruct(const Struct* from, std::string_view name) {
  if (from == nullptr) return Unexpected(InvalidArgument("{}: found NULL", name));
  size_t size = 0;
  std::memcpy(&size, from, sizeof(size));
  if (size < sizeof(size)) {
    return Unexpected(
        InvalidArgument("{}.struct_size: found {}, expected sizeof({})", name, size, name));
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  for (size_t i = sizeof(Struct); i < size; ++i) {
    if (bytes[i] != 0) {
      return Unexpected(InvalidArgument(
          "{}: a field beyond the {} bytes that this library knows is set", name, sizeof(Struct)));
    }
  }
  Struct known{};
  std::memcpy(&known, from, std::min(size, sizeof(Struct)));
  return known;
}

// Fills in as much of the caller's struct as it has.
template <typename Struct>
Status WriteStruct(Struct value, Struct* to, std::string_view name) {
  if (to == nullptr) return InvalidArgument("{}: found NULL", name);
  std::memcpy(&value.struct_size, to, sizeof(size_t));
  if (value.struct_size < sizeof(size_t)) {
    return InvalidArgument("{}.struct_size: found {}, expected sizeof({})", name, value.struct_size,
                           name);
  }
  std::memcpy(to, &value, std::min(value.struct_size, sizeof(Struct)));
  return OkStatus();
}

}  // namespace tiercel::capi
