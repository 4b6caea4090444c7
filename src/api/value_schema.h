// ValueSchema: what a value of a body may be, told twice: to programs as JSON Schema, to people in
// words. Made once, when a model has been loaded; docs of the requests' readers, which do not look
// here.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::api {

struct FieldSchema;

class ValueSchema {
 public:
  // Defined where a FieldSchema is complete.
  ValueSchema(const ValueSchema& other);
  ValueSchema(ValueSchema&& other) noexcept;
  ValueSchema& operator=(const ValueSchema& other);
  ValueSchema& operator=(ValueSchema&& other) noexcept;
  ~ValueSchema();

  static ValueSchema Any();
  static ValueSchema Boolean();
  static ValueSchema Integer();
  static ValueSchema Number();
  static ValueSchema String();
  static ValueSchema OneOf(std::initializer_list<std::string_view> words);
  static ValueSchema List(ValueSchema items);
  static ValueSchema Map(ValueSchema values);  // an object with any names
  static ValueSchema Object(std::vector<FieldSchema> fields);
  static ValueSchema Either(const std::vector<ValueSchema>& choices);
  // Of what is not offered: null alone, which is as if the field were not there.
  static ValueSchema Nothing();

  // Bounds of numbers.
  template <typename T>
  ValueSchema AtLeast(T least) const {
    return With(fmt::format(R"(,"minimum":{})", least), fmt::format(", ≥ {}", least));
  }
  template <typename T>
  ValueSchema AtMost(T most) const {
    return With(fmt::format(R"(,"maximum":{})", most), fmt::format(", ≤ {}", most));
  }
  template <typename T>
  ValueSchema Above(T bound) const {
    return With(fmt::format(R"(,"exclusiveMinimum":{})", bound), fmt::format(", > {}", bound));
  }
  // Of strings (in characters), lists and maps.
  ValueSchema NotEmpty() const;
  ValueSchema AtMostLong(size_t most) const;
  // `json`: of the value that an absent field stands for.
  ValueSchema Default(std::string json) const;

  bool offered() const { return offered_; }
  const std::string& words() const { return words_; }
  const std::vector<FieldSchema>& fields() const {
    return fields_;
  }  // of an object, or of a list's objects
  // The schema's members, without braces: "type":"integer","minimum":1
  const std::string& members() const { return members_; }
  const std::string& default_json() const { return default_json_; }  // empty: there is none

 private:
  ValueSchema(std::string members, std::string words);
  ValueSchema With(std::string_view members, std::string_view words) const;

  std::string members_, words_, default_json_;
  std::string_view length_;  // what minLength and the like end with
  bool offered_ = true;
  std::vector<FieldSchema> fields_;
};

struct FieldSchema {
  std::string_view name;
  ValueSchema value;
  std::string_view meaning;
  bool required = false;
};

// {"type":"object","properties":…}. Null stands for the absence of a field that need not be there.
std::string ObjectSchemaJson(const std::vector<FieldSchema>& fields);

}  // namespace tiercel::api
