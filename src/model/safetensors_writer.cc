#include "model/safetensors_writer.h"

#include <utility>

#include "base/check.h"
#include "model/json_fields.h"

namespace tiercel::model {

int64_t PlannedTensor::bytes() const {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count * static_cast<int64_t>(SizeOf(dtype));
}

Expected<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    const std::string& folder, const std::string& prefix, std::vector<PlannedTensor> tensors,
    int64_t part_bytes) {
  std::unique_ptr<SafetensorsWriter> writer(new SafetensorsWriter);
  int64_t used = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (writer->parts_.empty() || used + tensors[i].bytes() > part_bytes) {
      writer->parts_.push_back({"", i, i});
      used = 0;
    }
    used += tensors[i].bytes();
    writer->parts_.back().end = i + 1;
  }
  Json weight_map = Json::object();
  int64_t total = 0;
  for (size_t p = 0; p < writer->parts_.size(); ++p) {
    const std::string name =
        fmt::format("{}-{:05}-of-{:05}.safetensors", prefix, p + 1, writer->parts_.size());
    writer->parts_[p].path = folder + "/" + name;
    for (size_t i = writer->parts_[p].begin; i < writer->parts_[p].end; ++i) {
      weight_map[tensors[i].name] = name;
      total += tensors[i].bytes();
    }
  }
  const std::string index_path = folder + "/" + prefix + ".safetensors.index.json";
  std::ofstream index(index_path);
  index << Json{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}}.dump(2) << "\n";
  index.close();
  if (!index) return Unexpected(ResourceExhausted("{}: cannot be written", index_path));
  writer->tensors_ = std::move(tensors);
  return writer;
}

Status SafetensorsWriter::OpenPart() {
  CHECK_LT(part_, parts_.size());
  const Part& part = parts_[part_++];
  Json header = Json::object();
  int64_t offset = 0;
  for (size_t i = part.begin; i < part.end; ++i) {
    const PlannedTensor& t = tensors_[i];
    header[t.name] = {{"dtype", Name(t.dtype)},
                      {"shape", t.shape},
                      {"data_offsets", {offset, offset + t.bytes()}}};
    offset += t.bytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins at a multiple of 8
  const uint64_t length = text.size();
  file_ = std::ofstream(part.path, std::ios::binary);
  for (int byte = 0; byte < 8; ++byte) file_.put(static_cast<char>(length >> (8 * byte)));
  file_ << text;
  return file_ ? OkStatus() : ResourceExhausted("{}: cannot be written", part.path);
}

Status SafetensorsWriter::Write(const std::string& name, std::span<const uint8_t> data) {
  CHECK_LT(next_, tensors_.size());
  CHECK_MSG(tensors_[next_].name == name, "{} after {} tensors, {} is planned", name, next_,
            tensors_[next_].name);
  CHECK_EQ(std::ssize(data), tensors_[next_].bytes());
  if (part_ == 0 || next_ == parts_[part_ - 1].end) {
    RETURN_IF_ERROR(Finish());
    RETURN_IF_ERROR(OpenPart());
  }
  file_.write(reinterpret_cast<const char*>(data.data()), std::ssize(data));
  ++next_;
  if (next_ == parts_[part_ - 1].end) return Finish();
  return file_ ? OkStatus() : ResourceExhausted("{}: cannot be written", parts_[part_ - 1].path);
}

Status SafetensorsWriter::Finish() {
  if (!file_.is_open()) return OkStatus();
  CHECK_EQ(next_, parts_[part_ - 1].end);
  file_.close();
  return file_ ? OkStatus()
               : ResourceExhausted("{}: cannot be written: is the disk full?",
                                   parts_[part_ - 1].path);
}

}  // namespace tiercel::model
