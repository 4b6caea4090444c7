#include "checkpoint/field_places.h"

namespace tiercel::checkpoint {
namespace {

// The older flags are overrides, too.
std::string_view FlagOf(std::string_view field) {
  if (field == "rope_theta") return "--hf-overrides (or --rope-theta)";
  if (field == "rope_scaling") return "--hf-overrides (or --rope-scaling)";
  return "--hf-overrides";
}

}  // namespace

FieldPlaces::FieldPlaces(std::string path, const Json& file, Json overrides, OwnNames names)
    : path_(std::move(path)), overrides_(std::move(overrides)), names_(std::move(names)) {
  for (const auto& [key, value] : file.items()) {
    if (value.is_object()) objects_.insert(key);
  }
}

// What an object lacks that only the overrides have is their fault.
bool FieldPlaces::IsOverridden(std::string_view object, std::string_view key) const {
  if (object.empty()) return overrides_.contains(key);
  const auto it = overrides_.find(object);
  if (it == overrides_.end() || !it->is_object()) return false;
  return !objects_.contains(object) || it->contains(key) || (key == "rope_type" && it->contains("type"));
}

std::string FieldPlaces::Of(std::string_view object, std::string_view key) const {
  const std::string dotted = object.empty() ? std::string(key) : fmt::format("{}.{}", object, key);
  const std::string spaced = object.empty() ? std::string(key) : fmt::format("{}: {}", object, key);
  if (IsOverridden(object, key)) return fmt::format("{}: {}", FlagOf(object.empty() ? key : object), spaced);
  return fmt::format("{}: {}", path_, names_ ? names_(dotted) : spaced);
}

JsonFields FieldsOf(const Json& fields, const FieldPlaces& places, const std::string& object) {
  return JsonFields(fields, [&places, object](std::string_view key) { return places.Of(object, key); });
}

}  // namespace tiercel::checkpoint
