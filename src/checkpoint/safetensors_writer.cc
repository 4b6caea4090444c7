#include "checkpoint/safetensors_writer.h"

#include <utility>

#include "base/check.h"
#include "checkpoint/json_fields.h"
#include "tensor/shape.h"

namespace tiercel::checkpoint {

int64_t PlannedTensor::bytes() const {
  return ElementsOf(shape) * static_cast<int64_t>(SizeOf(dtype));
}

Status SafetensorsWriter::BeginPart(std::vector<PlannedTensor> tensors) {
  RETURN_IF_ERROR(ClosePart());
  CHECK_LT(part_, parts_);
  tensors_ = std::move(tensors);
  next_ = 0;
  const std::string name =
      fmt::format("{}-{:05}-of-{:05}.safetensors", prefix_, ++part_, parts_);
  path_ = folder_ + "/" + name;
  Json header = Json::object();
  int64_t offset = 0;
  for (const PlannedTensor& t : tensors_) {
    header[t.name] = {{"dtype", Name(t.dtype)},
                      {"shape", t.shape},
                      {"data_offsets", {offset, offset + t.bytes()}}};
    offset += t.bytes();
    files_[t.name] = name;
  }
  total_ += offset;
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins at a multiple of 8
  const uint64_t length = text.size();
  file_ = std::ofstream(path_, std::ios::binary);
  for (int byte = 0; byte < 8; ++byte) file_.put(static_cast<char>(length >> (8 * byte)));
  file_ << text;
  return file_ ? OkStatus() : ResourceExhausted("{}: cannot be written", path_);
}

Status SafetensorsWriter::Write(const std::string& name, std::span<const uint8_t> data) {
  CHECK_LT(next_, tensors_.size());
  CHECK_MSG(tensors_[next_].name == name, "{} after {} tensors, {} is planned", name, next_,
            tensors_[next_].name);
  CHECK_EQ(std::ssize(data), tensors_[next_].bytes());
  file_.write(reinterpret_cast<const char*>(data.data()), std::ssize(data));
  ++next_;
  return file_ ? OkStatus() : ResourceExhausted("{}: cannot be written: is the disk full?", path_);
}

Status SafetensorsWriter::ClosePart() {
  CHECK_EQ(next_, tensors_.size());
  if (!file_.is_open()) return OkStatus();
  file_.close();
  return file_ ? OkStatus() : ResourceExhausted("{}: cannot be written: is the disk full?", path_);
}

Status SafetensorsWriter::Finish() {
  RETURN_IF_ERROR(ClosePart());
  CHECK_EQ(part_, parts_);
  const std::string path = folder_ + "/" + prefix_ + ".safetensors.index.json";
  std::ofstream index(path);
  index << Json{{"metadata", {{"total_size", total_}}}, {"weight_map", files_}}.dump(2) << "\n";
  index.close();
  return index ? OkStatus() : ResourceExhausted("{}: cannot be written", path);
}

}  // namespace tiercel::checkpoint
