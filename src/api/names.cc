#include "api/names.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <random>

namespace tiercel::api {

std::optional<ApiError> CheckModel(const std::string& name, const ModelInfo& model) {
  if (name.empty() || std::find(model.served_names.begin(), model.served_names.end(), name) !=
                          model.served_names.end()) {
    return std::nullopt;
  }
  return ApiError{404, "NotFoundError",
                  fmt::format("The model `{}` does not exist.", name.substr(0, 256)), "model"};
}

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string RandomId() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return fmt::format("{:016x}{:016x}", generator(), generator());
}

bool IsPlainId(std::string_view id) {
  constexpr size_t kMaxLength = 128;
  return !id.empty() && id.size() <= kMaxLength &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || std::string_view("-_.:").find(static_cast<char>(c)) !=
                                              std::string_view::npos;
         });
}

std::string AnswerId(std::string_view prefix, std::string_view header_id, std::string_view body_id) {
  std::string id(prefix);
  if (!header_id.empty()) return id.append(header_id);
  return IsPlainId(body_id) ? id.append(body_id) : id.append(RandomId());
}

}  // namespace tiercel::api
