// Json: a small ordered document. Objects keep their key order, and numbers their digits (chat
// templates print both). json_reader.h makes one of untrusted text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tiercel::api {

class Json {
 public:
  struct Member;
  using Array = std::vector<Json>;
  using Object = std::vector<Member>;

  Json() = default;
  Json(bool v);  // NOLINT: values convert
  Json(int64_t v);  // NOLINT
  Json(double v);  // NOLINT
  Json(std::string v);  // NOLINT
  Json(std::string_view v);  // NOLINT
  Json(const char* v);  // NOLINT
  Json(Array v);  // NOLINT
  Json(Object v);  // NOLINT
  // A number that must keep its text: `digits` is one of JSON's.
  static Json Number(std::string digits);
  // An object: Json::Of({{"a", Json(1)}, …}).
  template <size_t n>
  static Json Of(Member (&&members)[n]);

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  // The value if it is of that kind, else null.
  const bool* boolean() const { return std::get_if<bool>(&value_); }
  const int64_t* integer() const { return std::get_if<int64_t>(&value_); }
  // Any number that is not an int64_t: the nearest double, infinite beyond its range.
  std::optional<double> real() const;
  const std::string* string() const { return std::get_if<std::string>(&value_); }
  const Array* array() const { return std::get_if<Array>(&value_); }
  const Object* object() const { return std::get_if<Object>(&value_); }
  std::string* string() { return std::get_if<std::string>(&value_); }
  Array* array() { return std::get_if<Array>(&value_); }
  Object* object() { return std::get_if<Object>(&value_); }

  // The member `key` of an object; null if there is none or this is no object.
  const Json* Find(std::string_view key) const;
  Json* Find(std::string_view key);
  // The member `key` if it is a string; else null.
  const std::string* FindString(std::string_view key) const;
  // The member `key`, moved out; null if there is none.
  Json Take(std::string_view key);
  // Sets or replaces a member; this must be an object.
  void Set(std::string_view key, Json value);
  bool Erase(std::string_view key);

  // What its strings and keys take as JSON at least: their bytes, and a backslash where one is needed.
  size_t StringBytes() const;

  // Compact JSON text, always valid UTF-8.
  void AppendTo(std::string* out) const;
  std::string Dump() const;
  // Its first `most` bytes, with "…" if there are more; as cheap for a large value as for a small one.
  std::string DumpStart(size_t most) const;

 private:
  void AppendUpTo(size_t most, std::string* out) const;

  // A number that was read and is no int64_t, as it was written.
  struct Digits {
    std::string text;
  };

  std::variant<std::monostate, bool, int64_t, double, Digits, std::string, Array, Object> value_;
};

struct Json::Member {
  std::string key;
  Json value;
};

// A member that is not there, or null: for most readers the same.
inline bool IsAbsent(const Json* value) { return value == nullptr || value->is_null(); }

// Here, where a Member is complete.
inline Json::Json(bool v) : value_(v) {}
inline Json::Json(int64_t v) : value_(v) {}
inline Json::Json(double v) : value_(v) {}
inline Json::Json(std::string v) : value_(std::move(v)) {}
inline Json::Json(std::string_view v) : value_(std::string(v)) {}
inline Json::Json(const char* v) : value_(std::string(v)) {}
inline Json::Json(Array v) : value_(std::move(v)) {}
inline Json::Json(Object v) : value_(std::move(v)) {}

template <size_t n>
Json Json::Of(Member (&&members)[n]) {
  return Json(Object(std::make_move_iterator(members), std::make_move_iterator(members + n)));
}

}  // namespace tiercel::api
