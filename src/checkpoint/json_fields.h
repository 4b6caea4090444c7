// Checked reading of a JSON object's fields: one line that names the file, the field, what was
// found and what was expected. Only the readers of model files include this.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tiercel::checkpoint {

using Json = nlohmann::json;

constexpr size_t kMaxConfigBytes = size_t{4} << 20;  // of a config.json, or what is merged into one

// An object; `path` is for messages. Sizes beyond `max_bytes` and nesting beyond 32 levels are refused
// before parsing; what is no JSON is refused with its line and column. NaN and Infinity, which Python writes, become texts.
Expected<Json> ParseJsonObject(std::string_view text, const std::string& path, size_t max_bytes);

// A value as a message shows it: short, valid UTF-8.
std::string ShowJson(const Json& value);

// Readers of one object. A field that is absent or null leaves `out` as it is.
class JsonFields {
 public:
  // `where` begins every message: "config.json: rope_scaling". The object must outlive this.
  JsonFields(const Json& object, std::string where)
      : JsonFields(object, [where = std::move(where)](std::string_view key) { return fmt::format("{}: {}", where, key); }) {}
  // `place_of` a field begins the messages about it.
  JsonFields(const Json& object, std::function<std::string(std::string_view key)> place_of)
      : object_(object), place_of_(std::move(place_of)) {}

  bool Has(std::string_view key) const { return Get(key) != nullptr; }
  const Json* Get(std::string_view key) const;  // null if absent or null
  bool WasAskedFor(std::string_view key) const { return asked_.contains(key); }

  Status Int(std::string_view key, int64_t min, int64_t max, int64_t& out) const;
  Status RequiredInt(std::string_view key, int64_t min, int64_t max, int64_t& out) const;
  Status Double(std::string_view key, double min, double max, double& out) const;
  Status Bool(std::string_view key, bool& out) const;
  Status String(std::string_view key, std::string& out) const;
  // One token id or a list of them. −1, which some files write for "none", is left out.
  Status TokenIds(std::string_view key, std::vector<int32_t>& out) const;

  template <typename T>
  Status Optional(std::string_view key, T min, T max, std::optional<T>& out) const;

  Status Wrong(std::string_view key, const std::string& expected) const;

 private:
  const Json& object_;
  std::function<std::string(std::string_view key)> place_of_;
  mutable std::set<std::string, std::less<>> asked_;
};

template <typename T>
Status JsonFields::Optional(std::string_view key, T min, T max, std::optional<T>& out) const {
  if (!Has(key)) return OkStatus();
  T value{};
  if constexpr (std::is_integral_v<T>) {
    RETURN_IF_ERROR(Int(key, min, max, value));
  } else {
    RETURN_IF_ERROR(Double(key, min, max, value));
  }
  out = value;
  return OkStatus();
}

}  // namespace tiercel::checkpoint
