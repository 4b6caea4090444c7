// Fields: reading the fields of a request object by name and type, in pydantic's lax manner
// (numbers as strings are taken, null is absent), collecting every fault as vLLM reports them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "api/bounds.h"
#include "api/errors.h"
#include "api/json.h"

namespace tiercel::api {

// The faults of one body, up to kMaxFaults. One error response tells them all.
class SchemaErrors {
 public:
  // `path` is dotted: "messages.0.role".
  void Add(std::string_view kind, std::string_view path, std::string_view message,
           const Json* input);
  bool empty() const { return items_.empty(); }
  // Nothing more is taken: loops over what the client sent end.
  bool full() const { return items_.size() >= kMaxFaults; }
  // 400 "Bad Request", "N validation error(s):\n  {…}"; param is the first fault's place.
  ApiError ToError() const;

 private:
  std::vector<std::string> items_;
  std::string first_path_;
};

class Fields {
 public:
  // `object` must be an object and outlive this; `path` is the prefix of error places. Strings and
  // the contents of lists are moved out of it.
  Fields(Json& object, SchemaErrors* errors, std::string path = {});

  // Absent, null, ill-typed and too long (then reported) give nullopt.
  std::optional<bool> Bool(std::string_view name);
  std::optional<int64_t> Int(std::string_view name);
  std::optional<double> Number(std::string_view name);
  std::optional<std::string> String(std::string_view name, size_t max_bytes = kMaxJsonBytes);
  std::optional<std::vector<int32_t>> Int32List(std::string_view name,
                                                size_t max_items = kMaxJsonValues);
  std::optional<std::vector<std::string>> StringList(std::string_view name, size_t max_items,
                                                     size_t max_bytes);
  Json* Object(std::string_view name, size_t max_members = kMaxObjectKeys);
  Json* Array(std::string_view name, size_t max_items = kMaxJsonValues);
  // The fields of a member that is an object; its faults have its name before them.
  std::optional<Fields> Inner(std::string_view name);
  // Of any kind; null if absent or null.
  Json* Any(std::string_view name);

  void Report(std::string_view kind, std::string_view name, std::string_view message,
              const Json* input = nullptr);
  // The names that nobody asked for; at most `most` of them.
  std::vector<std::string_view> Unread(size_t most) const;
  bool full() const { return errors_->full(); }

 private:
  std::string PathOf(std::string_view name) const;
  bool CheckLength(const std::string& text, std::string_view name, size_t max_bytes);

  Json& object_;
  SchemaErrors* errors_;
  std::string path_;
  std::unordered_set<std::string_view> read_;  // literals of the readers
};

// An integer of a JSON value in the lax manner: 5, 5.0 and "5"; nullopt for all else.
std::optional<int64_t> LaxInt(const Json& value);

}  // namespace tiercel::api
