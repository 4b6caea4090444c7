#include "checkpoint/tensor_reader.h"

#include <fmt/ranges.h>

#include <optional>

namespace tiercel::checkpoint {

Status WithPath(const Checkpoint& checkpoint, Status status) {
  const bool of_a_file = status.code() == StatusCode::kInvalidArgument || status.code() == StatusCode::kNotFound ||
                         status.code() == StatusCode::kUnimplemented;
  const std::string path = checkpoint.path();
  if (!of_a_file || path.empty() || status.message().find(path) != std::string::npos) return status;
  return Status(status.code(), path + ": " + status.message()).WithParam(status.param());
}

Status CheckTensor(const Checkpoint& checkpoint, const std::string& name,
                   const std::vector<int64_t>& shape) {
  const std::optional<TensorInfo> info = checkpoint.Find(name);
  if (!info.has_value()) {
    // The checkpoint's own message names the file.
    BF16 unused{0};
    Status missing = checkpoint.ReadRows(name, 0, 0, &unused);
    if (!missing.ok()) return missing;
    return NotFound("{}: missing in the checkpoint", name);
  }
  if (info->shape != shape) {
    return WithPath(checkpoint, InvalidArgument("{}: found shape [{}], expected [{}] from the configuration", name,
                                                fmt::join(info->shape, ", "), fmt::join(shape, ", ")));
  }
  return OkStatus();
}

}  // namespace tiercel::checkpoint
