#include "api/json.h"

#include <nlohmann/json.hpp>
#include <unordered_map>

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

void Json::AppendTo(std::string* out) const {
  if (const bool* v = boolean()) {
    AppendJsonBool(out, *v);
  } else if (const int64_t* v = integer()) {
    AppendJsonInt(out, *v);
  } else if (const double* v = real()) {
    AppendJsonDouble(out, *v);
  } else if (const std::string* v = string()) {
    AppendJsonString(out, *v);
  } else if (const Array* items = array()) {
    out->push_back('[');
    for (size_t i = 0; i < items->size(); ++i) {
      if (i > 0) out->push_back(',');
      (*items)[i].AppendTo(out);
    }
    out->push_back(']');
  } else if (const Object* members = object()) {
    out->push_back('{');
    for (size_t i = 0; i < members->size(); ++i) {
      if (i > 0) out->push_back(',');
      AppendJsonString(out, (*members)[i].key);
      out->push_back(':');
      (*members)[i].value.AppendTo(out);
    }
    out->push_back('}');
  } else {
    out->append("null");
  }
}

std::string Json::Dump() const {
  std::string out;
  AppendTo(&out);
  return out;
}

namespace {

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
    Frame& frame = stack_.back();
    Json::Object& members = *frame.value.object();
    if (static_cast<int64_t>(members.size()) >= limits_.max_object_keys) {
      return Refuse("an object has more than {} keys", limits_.max_object_keys);
    }
    const auto [it, is_new] = frame.index.try_emplace(name, members.size());
    frame.slot = it->second;
    if (is_new) members.push_back({std::move(name), Json()});
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    // The library's text: "[json.exception.…] parse error at line 1, column 2: …; last read: '…'".
    std::string_view text = error.what();
    if (const size_t at = text.find("] "); at != std::string_view::npos) text.remove_prefix(at + 2);
    error_ = fmt::format("JSON decode error at byte {}: {}", position, text);
    return false;
  }

  Expected<Json> Take(bool parsed) && {
    if (!parsed) return Unexpected(InvalidArgument("{}", error_));
    return std::move(root_);
  }

 private:
  struct Frame {
    Json value;
    size_t slot = 0;                                // of an object: the member that comes next
    std::unordered_map<std::string, size_t> index;  // of an object: where a key stands
  };

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
    } else if (Json::Array* items = stack_.back().value.array()) {
      items->push_back(std::move(value));
    } else {
      (*stack_.back().value.object())[stack_.back().slot].value = std::move(value);
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
    stack_.push_back({std::move(container), 0, {}});
    return true;
  }

  bool Close() {
    Json value = std::move(stack_.back().value);
    stack_.pop_back();
    Place(std::move(value));
    return true;
  }

  const JsonLimits& limits_;
  std::vector<Frame> stack_;
  Json root_;
  int64_t num_values_ = 0;
  std::string error_ = "JSON decode error";
};

}  // namespace

Expected<Json> ParseJson(std::string_view text, const JsonLimits& limits) {
  Builder builder(limits);
  const bool parsed = nlohmann::json::sax_parse(text, &builder);
  return std::move(builder).Take(parsed);
}

}  // namespace tiercel::api
