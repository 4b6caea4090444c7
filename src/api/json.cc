#include "api/json.h"

#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "api/json_writer.h"

namespace tiercel::api {

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

// Stops once `most` bytes are there, at the next end of a value.
void Json::AppendUpTo(size_t most, std::string* out) const {
  if (const bool* v = boolean()) {
    AppendJsonBool(out, *v);
  } else if (const int64_t* v = integer()) {
    AppendJsonInt(out, *v);
  } else if (const double* v = real()) {
    AppendJsonDouble(out, *v);
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

namespace {

constexpr size_t kMaxShownError = 256;

// Of duplicate keys the last value stays, at the first one's place.
void MergeDuplicates(Json::Object* members) {
  std::unordered_map<std::string_view, size_t> places;
  places.reserve(members->size());
  std::vector<size_t> doubles;
  for (size_t i = 0; i < members->size(); ++i) {
    const auto [it, is_new] = places.try_emplace((*members)[i].key, i);
    if (is_new) continue;
    (*members)[it->second].value = std::move((*members)[i].value);
    doubles.push_back(i);
  }
  if (doubles.empty()) return;
  size_t kept = 0;
  for (size_t i = 0, next = 0; i < members->size(); ++i) {
    if (next < doubles.size() && doubles[next] == i) {
      ++next;
      continue;
    }
    if (kept != i) (*members)[kept] = std::move((*members)[i]);
    ++kept;
  }
  members->resize(kept);
}

// Receives the library's events (it parses without recursion) and builds the document. The open
// containers are owned by the stack until they close, so that growing an array moves no parent.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return Add(Json()); }
  bool boolean(bool value) override { return Add(Json(value)); }
  bool number_integer(int64_t value) override { return Add(Json(value)); }
  bool number_unsigned(uint64_t value) override {
    if (value > static_cast<uint64_t>(INT64_MAX)) return Add(Json(static_cast<double>(value)));
    return Add(Json(static_cast<int64_t>(value)));
  }
  bool number_float(double value, const std::string&) override { return Add(Json(value)); }
  bool string(std::string& value) override { return Add(Json(std::move(value))); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(Json(Json::Object{})); }
  bool start_array(size_t) override { return Open(Json(Json::Array{})); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(std::string& name) override {
    Json::Object& members = *stack_.back().object();
    if (static_cast<int64_t>(members.size()) >= limits_.max_object_keys) {
      return Refuse("an object has more than {} keys", limits_.max_object_keys);
    }
    if (!Count()) return false;
    members.push_back({std::move(name), Json()});
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    // The library's text: "[json.exception.…] parse error at line 1, column 2: …; last read: '…'".
    std::string_view text = error.what();
    if (const size_t at = text.find("] "); at != std::string_view::npos) text.remove_prefix(at + 2);
    // The token that was read last may be most of the text.
    const bool is_long = text.size() > kMaxShownError;
    error_ = fmt::format("JSON decode error at byte {}: {}{}", position,
                         text.substr(0, kMaxShownError), is_long ? "…" : "");
    return false;
  }

  int64_t num_values() const { return num_values_; }

  Expected<Json> Take(bool parsed) && {
    if (!parsed) return Unexpected(InvalidArgument("{}", error_));
    return std::move(root_);
  }

 private:
  template <typename... Args>
  bool Refuse(fmt::format_string<Args...> format, Args&&... args) {
    error_ = "JSON is too large: " + fmt::format(format, std::forward<Args>(args)...);
    return false;
  }

  bool Count() {
    return ++num_values_ <= limits_.max_values ||
           Refuse("it has more than {} values", limits_.max_values);
  }

  void Place(Json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
    } else if (Json::Array* items = stack_.back().array()) {
      items->push_back(std::move(value));
    } else {
      stack_.back().object()->back().value = std::move(value);
    }
  }

  bool Add(Json value) {
    if (!Count()) return false;
    Place(std::move(value));
    return true;
  }

  bool Open(Json container) {
    if (static_cast<int>(stack_.size()) >= limits_.max_depth) {
      return Refuse("it is nested deeper than {} levels", limits_.max_depth);
    }
    if (!Count()) return false;
    stack_.push_back(std::move(container));
    return true;
  }

  bool Close() {
    Json value = std::move(stack_.back());
    stack_.pop_back();
    if (Json::Object* members = value.object(); members != nullptr && members->size() > 1) {
      MergeDuplicates(members);
    }
    Place(std::move(value));
    return true;
  }

  const JsonLimits& limits_;
  std::vector<Json> stack_;
  Json root_;
  int64_t num_values_ = 0;
  std::string error_ = "JSON decode error";
};

// The library copies a token that it cannot take several times into its message. Long ones are found
// before it reads them: a string without an end, and a number of more digits than any has.
constexpr size_t kLongToken = 64 << 10;

Status CheckLongTokens(std::string_view text) {
  const auto refuse = [](size_t position, const char* what) {
    return InvalidArgument("JSON decode error at byte {}: {}", position + 1, what);
  };
  size_t number = 0;  // digits and the like so far
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool in_number = (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e';
    number = in_number ? number + 1 : 0;
    if (number > kLongToken) return refuse(i, "a number has more digits than can be taken");
    if (c != '"') continue;
    const size_t begin = i++;
    for (; i < text.size() && text[i] != '"'; ++i) i += text[i] == '\\';
    if (i >= text.size() && text.size() - begin > kLongToken) {
      return refuse(begin, "a string has no end");
    }
  }
  return OkStatus();
}

}  // namespace

Expected<Json> ParseJson(std::string_view text, const JsonLimits& limits, int64_t* num_values) {
  if (text.size() > kMaxJsonBytes) {
    return Unexpected(InvalidArgument("JSON is too large: it has {} bytes, at most {} are taken",
                                      text.size(), kMaxJsonBytes));
  }
  RETURN_IF_ERROR(CheckLongTokens(text));
  Builder builder(limits);
  const bool parsed = nlohmann::json::sax_parse(text, &builder);
  if (num_values != nullptr) *num_values = builder.num_values();
  return std::move(builder).Take(parsed);
}

}  // namespace tiercel::api
