#include "api/json.h"

#include <cstdlib>
#include <string_view>
#include <vector>

#include "api/json_writer.h"
#include "text/json_escape.h"

namespace tiercel::api {

Json Json::Number(std::string digits) {
  Json json;
  json.value_ = Digits{std::move(digits)};
  return json;
}

std::optional<double> Json::real() const {
  if (const double* v = std::get_if<double>(&value_)) return *v;
  // In the C locale, which the program does not leave; from_chars does not tell too large from too
  // small.
  if (const Digits* v = std::get_if<Digits>(&value_)) return std::strtod(v->text.c_str(), nullptr);
  return std::nullopt;
}

const Json* Json::Find(std::string_view key) const {
  const Object* members = object();
  if (members == nullptr) return nullptr;
  for (const Member& member : *members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

Json* Json::Find(std::string_view key) {
  return const_cast<Json*>(std::as_const(*this).Find(key));  // NOLINT: this is not const
}

const std::string* Json::FindString(std::string_view key) const {
  const Json* value = Find(key);
  return value != nullptr ? value->string() : nullptr;
}

Json Json::Take(std::string_view key) {
  Json* value = Find(key);
  return value != nullptr ? std::move(*value) : Json();
}

void Json::Set(std::string_view key, Json value) {
  Object& members = std::get<Object>(value_);
  for (Member& member : members) {
    if (member.key == key) {
      member.value = std::move(value);
      return;
    }
  }
  members.push_back({std::string(key), std::move(value)});
}

bool Json::Erase(std::string_view key) {
  Object* members = object();
  return members != nullptr &&
         std::erase_if(*members, [&](const Member& member) { return member.key == key; }) > 0;
}

namespace {

size_t EscapedBytes(std::string_view value) {
  size_t escapes = 0;
  for (const char c : value) escapes += text::NeedsJsonEscape(static_cast<unsigned char>(c));
  return value.size() + escapes;
}

}  // namespace

size_t Json::StringBytes() const {
  size_t bytes = 0;
  if (const std::string* text = string()) {
    bytes = EscapedBytes(*text);
  } else if (const Array* items = array()) {
    for (const Json& item : *items) bytes += item.StringBytes();
  } else if (const Object* members = object()) {
    for (const Member& member : *members) {
      bytes += EscapedBytes(member.key) + member.value.StringBytes();
    }
  }
  return bytes;
}

// Stops once `most` bytes are there, at the next end of a value.
void Json::AppendUpTo(size_t most, std::string* out) const {
  if (const bool* v = boolean()) {
    AppendJsonBool(out, *v);
  } else if (const int64_t* v = integer()) {
    AppendJsonInt(out, *v);
  } else if (const double* v = std::get_if<double>(&value_)) {
    AppendJsonDouble(out, *v);
  } else if (const Digits* v = std::get_if<Digits>(&value_)) {
    out->append(v->text, 0, most);
  } else if (const std::string* v = string()) {
    AppendJsonString(out, std::string_view(*v).substr(0, most));
  } else if (const Array* items = array()) {
    out->push_back('[');
    for (size_t i = 0; i < items->size() && out->size() <= most; ++i) {
      if (i > 0) out->push_back(',');
      (*items)[i].AppendUpTo(most, out);
    }
    out->push_back(']');
  } else if (const Object* members = object()) {
    out->push_back('{');
    for (size_t i = 0; i < members->size() && out->size() <= most; ++i) {
      if (i > 0) out->push_back(',');
      AppendJsonString(out, std::string_view((*members)[i].key).substr(0, most));
      out->push_back(':');
      (*members)[i].value.AppendUpTo(most, out);
    }
    out->push_back('}');
  } else {
    out->append("null");
  }
}

void Json::AppendTo(std::string* out) const { AppendUpTo(std::string::npos, out); }

std::string Json::Dump() const {
  std::string out;
  AppendTo(&out);
  return out;
}

std::string Json::DumpStart(size_t most) const {
  std::string out;
  AppendUpTo(most, &out);
  if (out.size() > most) {
    out.resize(most);
    out += "…";
  }
  return out;
}

}  // namespace tiercel::api
