#include "checkpoint/gguf_writer.h"

#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "tensor/shape.h"

namespace tiercel::checkpoint {
namespace {

constexpr int64_t kAlignment = 32;  // the format's, where general.alignment says nothing

template <typename T>
void Put(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void PutText(std::string_view text, std::string* out) {
  Put<uint64_t>(text.size(), out);
  *out += text;
}

int64_t Padding(int64_t bytes) { return (kAlignment - bytes % kAlignment) % kAlignment; }

}  // namespace

void GgufEntries::AddKey(std::string_view key, GgufValueType type) {
  ++count_;
  PutText(key, &bytes_);
  Put(static_cast<uint32_t>(type), &bytes_);
}

void GgufEntries::AddText(std::string_view key, std::string_view value) {
  AddKey(key, GgufValueType::kString);
  PutText(value, &bytes_);
}

void GgufEntries::AddU32(std::string_view key, int64_t value) {
  CHECK_MSG(value >= 0 && value <= std::numeric_limits<uint32_t>::max(), "{}: {}", key, value);
  AddKey(key, GgufValueType::kU32);
  Put(static_cast<uint32_t>(value), &bytes_);
}

void GgufEntries::AddF32(std::string_view key, double value) {
  AddKey(key, GgufValueType::kF32);
  Put(static_cast<float>(value), &bytes_);
}

void GgufEntries::AddBool(std::string_view key, bool value) {
  AddKey(key, GgufValueType::kBool);
  Put(static_cast<uint8_t>(value), &bytes_);
}

void GgufEntries::AddTexts(std::string_view key, const std::vector<std::string>& values) {
  AddKey(key, GgufValueType::kArray);
  Put(static_cast<uint32_t>(GgufValueType::kString), &bytes_);
  Put<uint64_t>(values.size(), &bytes_);
  for (const std::string& value : values) PutText(value, &bytes_);
}

void GgufEntries::AddI32s(std::string_view key, const std::vector<int32_t>& values) {
  AddKey(key, GgufValueType::kArray);
  Put(static_cast<uint32_t>(GgufValueType::kI32), &bytes_);
  Put<uint64_t>(values.size(), &bytes_);
  for (const int32_t value : values) Put(value, &bytes_);
}

int64_t PlannedGgufTensor::bytes() const {
  const GgufBlock block = *GgufBlockOf(static_cast<uint32_t>(type));
  CHECK_EQ(shape.back() % block.elements, 0);
  return ElementsOf(shape) / block.elements * block.bytes;
}

Expected<std::unique_ptr<GgufWriter>> GgufWriter::Create(const std::string& path, const GgufEntries& entries,
                                                         std::vector<PlannedGgufTensor> tensors) {
  std::error_code error;
  if (std::filesystem::exists(std::filesystem::symlink_status(path, error))) {
    return Unexpected(InvalidArgument("{}: is there already; name a new file", path));
  }
  std::string header = "GGUF";
  Put<uint32_t>(3, &header);
  Put<uint64_t>(tensors.size(), &header);
  Put<uint64_t>(entries.count(), &header);
  header += entries.bytes();
  int64_t offset = 0;
  for (const PlannedGgufTensor& tensor : tensors) {
    PutText(tensor.name, &header);
    Put(static_cast<uint32_t>(tensor.shape.size()), &header);
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) Put(static_cast<uint64_t>(*size), &header);
    Put(static_cast<uint32_t>(tensor.type), &header);
    Put(static_cast<uint64_t>(offset), &header);
    offset += tensor.bytes() + Padding(tensor.bytes());
  }
  header.append(static_cast<size_t>(Padding(std::ssize(header))), '\0');
  std::unique_ptr<GgufWriter> writer(new GgufWriter(path, std::move(tensors)));
  writer->file_.open(writer->part_, std::ios::binary);
  if (!writer->file_) {
    writer->finished_ = true;  // nothing to remove
    return Unexpected(FailedPrecondition("{}: cannot be made: is its folder there, and may you write to it?", path));
  }
  writer->file_ << header;
  RETURN_IF_ERROR(writer->Written());
  return writer;
}

GgufWriter::~GgufWriter() {
  if (finished_) return;
  file_.close();
  std::error_code ignored;
  std::filesystem::remove(part_, ignored);
}

Status GgufWriter::Written() const {
  return file_ ? OkStatus() : ResourceExhausted("{}: cannot be written: is the disk full?", path_);
}

Status GgufWriter::Append(const std::string& name, std::span<const uint8_t> data) {
  CHECK_LT(next_, tensors_.size());
  const PlannedGgufTensor& tensor = tensors_[next_];
  CHECK_MSG(tensor.name == name, "{} after {} tensors, {} is planned", name, next_, tensor.name);
  file_.write(reinterpret_cast<const char*>(data.data()), std::ssize(data));
  of_next_ += std::ssize(data);
  CHECK_LE(of_next_, tensor.bytes());
  if (of_next_ == tensor.bytes()) {
    constexpr char kZeros[kAlignment] = {};
    file_.write(kZeros, Padding(of_next_));
    of_next_ = 0;
    ++next_;
  }
  return Written();
}

Status GgufWriter::Finish() {
  CHECK_EQ(next_, tensors_.size());
  file_.close();
  RETURN_IF_ERROR(Written());
  std::error_code error;
  std::filesystem::rename(part_, path_, error);
  if (error) return FailedPrecondition("{}: {} cannot get this name: {}", path_, part_, error.message());
  finished_ = true;
  return OkStatus();
}

}  // namespace tiercel::checkpoint
