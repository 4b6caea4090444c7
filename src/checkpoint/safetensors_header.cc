#include "checkpoint/safetensors_header.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "base/file_hints.h"
#include "checkpoint/tensor_bounds.h"

namespace tiercel::checkpoint {
namespace {

// The largest known models stay below 10 MB; the format's own limit is 100 MB.
constexpr uint64_t kMaxHeader = uint64_t{64} << 20;
constexpr size_t kMaxRank = 8;
constexpr uint64_t kMaxTensorBytes = uint64_t{1} << 60;

static_assert(std::endian::native == std::endian::little, "files are little-endian");

struct TypeSize {
  std::string_view name;
  uint64_t bytes;
};
constexpr std::array<TypeSize, 16> kTypeSizes = {{{"BF16", 2},
                                              {"F16", 2},
                                              {"F32", 4},
                                              {"F64", 8},
                                              {"I8", 1},
                                              {"U8", 1},
                                              {"I16", 2},
                                              {"U16", 2},
                                              {"I32", 4},
                                              {"U32", 4},
                                              {"I64", 8},
                                              {"U64", 8},
                                              {"BOOL", 1},
                                              {"F8_E4M3", 1},
                                              {"F8_E5M2", 1},
                                              {"F8_E8M0", 1}}};

// Builds the entries while the JSON is read, so that a hostile header costs no more memory than
// its own size. Depth 1 is the root, 2 a tensor, 3 a tensor's list.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  SafetensorsHeader header;
  std::string error;

  bool start_object(size_t) override {
    ++depth_;
    if (depth_ == 1) return true;
    if (depth_ == 2 && in_metadata_) return true;
    if (depth_ != 2) return Fail("an object where none belongs");
    if (header.size() >= kMaxTensors) return Fail(fmt::format("more than {} tensors", kMaxTensors));
    const auto [it, inserted] = header.emplace(tensor_, SafetensorsEntry{});
    if (!inserted) return Fail("the name twice");
    entry_ = &it->second;
    has_dtype_ = has_shape_ = false;
    offsets_.clear();
    return true;
  }

  bool key(std::string& name) override {
    if (depth_ == 1) {
      tensor_ = name;
      if (name.size() > kMaxName) return Fail(fmt::format("a name of {} bytes", name.size()));
      in_metadata_ = name == "__metadata__";
    } else {
      field_ = name;
    }
    return true;
  }

  bool end_object() override {
    --depth_;
    if (depth_ != 1) return true;
    if (in_metadata_) {
      in_metadata_ = false;
      return true;
    }
    if (!has_dtype_ || !has_shape_) return Fail("no dtype or shape");
    if (offsets_.size() != 2 || offsets_[0] > offsets_[1]) {
      return Fail("data_offsets that are not [begin, end]");
    }
    entry_->begin = offsets_[0];
    entry_->end = offsets_[1];
    return true;
  }

  bool start_array(size_t) override {
    if (in_metadata_ || depth_ != 2) return Fail("a list where none belongs");
    depth_ = 3;
    if (field_ == "shape") has_shape_ = true;
    return true;
  }
  bool end_array() override {
    depth_ = 2;
    return true;
  }

  bool number_unsigned(uint64_t value) override {
    if (depth_ != 3) return Scalar("a number");
    if (field_ == "shape") {
      if (value > kMaxDimension) return Fail(fmt::format("the dimension {}", value));
      if (entry_->shape.size() == kMaxRank) return Fail("too many dimensions");
      entry_->shape.push_back(static_cast<int64_t>(value));
    } else if (field_ == "data_offsets") {
      if (offsets_.size() == 2) return Fail("data_offsets that are not [begin, end]");
      offsets_.push_back(value);
    }
    return true;
  }
  bool string(std::string& value) override {
    if (in_metadata_) return true;
    if (depth_ == 2 && field_ == "dtype") {
      entry_->dtype = value;
      has_dtype_ = true;
      return true;
    }
    return Scalar("a string");
  }
  bool null() override { return Scalar("null"); }
  bool boolean(bool) override { return Scalar("a boolean"); }
  bool number_integer(int64_t) override { return Scalar("a negative number"); }
  bool number_float(double, const std::string&) override { return Scalar("a fraction"); }
  bool binary(nlohmann::json::binary_t&) override { return Scalar("binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    if (error.empty()) error = fmt::format("invalid JSON at byte {} of the header", position);
    return false;
  }

 private:
  // Metadata and fields that are not ours may hold anything flat.
  bool Scalar(const char* what) {
    const bool ours = field_ == "dtype" || field_ == "shape" || field_ == "data_offsets";
    if (in_metadata_ || (depth_ == 2 && !ours)) return true;
    return Fail(what + std::string(" where none belongs"));
  }
  bool Fail(const std::string& what) {
    error = fmt::format("the header has {} at tensor \"{}\"", what, tensor_.substr(0, 100));
    return false;
  }

  int depth_ = 0;
  bool in_metadata_ = false, has_dtype_ = false, has_shape_ = false;
  std::string tensor_, field_;
  SafetensorsEntry* entry_ = nullptr;
  std::vector<uint64_t> offsets_;
};

// Bytes of a tensor, or nullopt where the dtype is unknown or the product overflows.
std::optional<uint64_t> TensorBytes(const SafetensorsEntry& entry) {
  const auto type = std::find_if(kTypeSizes.begin(), kTypeSizes.end(),
                                 [&](const TypeSize& t) { return t.name == entry.dtype; });
  if (type == kTypeSizes.end()) return std::nullopt;
  // Overflow is looked for without the zeros: later products of some dimensions must fit as well.
  uint64_t bytes = type->bytes;
  bool empty = false;
  for (int64_t dimension : entry.shape) {
    empty |= dimension == 0;
    const uint64_t factor = static_cast<uint64_t>(std::max<int64_t>(dimension, 1));
    if (__builtin_mul_overflow(bytes, factor, &bytes) || bytes > kMaxTensorBytes) {
      return std::nullopt;
    }
  }
  return empty ? 0 : bytes;
}

std::string Show(const SafetensorsEntry& entry) {
  return fmt::format("{} [{}]", entry.dtype.substr(0, 20), fmt::join(entry.shape, ", "));
}

Status CheckEntries(SafetensorsHeader& header, uint64_t data_start, uint64_t file_size,
                    const std::string& path) {
  std::vector<SafetensorsHeader::value_type*> order;
  for (auto& item : header) {
    const SafetensorsEntry& e = item.second;
    const std::optional<uint64_t> bytes = TensorBytes(e);
    if (bytes != e.end - e.begin) {
      return InvalidArgument("{}: tensor \"{}\": found {} bytes for {}, expected {}", path,
                             item.first.substr(0, 100), e.end - e.begin, Show(e),
                             bytes ? std::to_string(*bytes) : "a known dtype and a possible size");
    }
    order.push_back(&item);
  }
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t end = 0;
  for (auto* item : order) {
    SafetensorsEntry& e = item->second;
    if (e.begin != end) {
      return InvalidArgument(
          "{}: tensor \"{}\" begins at byte {} of the data, expected {}: the "
          "header's offsets {}",
          path, item->first.substr(0, 100), e.begin, end,
          e.begin < end ? "overlap" : "leave a gap");
    }
    end = e.end;
  }
  const uint64_t data = file_size - data_start;
  if (end > data) {
    const uint64_t expected = end > UINT64_MAX - data_start ? UINT64_MAX : data_start + end;
    return InvalidArgument(
        "{}: is truncated: found {} bytes, expected {}; the download is "
        "incomplete",
        path, file_size, expected);
  }
  if (end < data) {
    return InvalidArgument(
        "{}: found {} bytes, expected {}: {} bytes follow the last tensor; "
        "download the file again",
        path, file_size, data_start + end, data - end);
  }
  for (auto* item : order) {
    item->second.begin += data_start;
    item->second.end += data_start;
  }
  return OkStatus();
}

}  // namespace

Expected<SafetensorsHeader> ParseSafetensorsHeader(std::span<const uint8_t> file,
                                                   const std::string& path) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  uint64_t length = 0;
  constexpr uint64_t kPrefix = sizeof(length);
  if (file.size() >= kPrefix) std::memcpy(&length, file.data(), kPrefix);
  if (length < 2 || length > kMaxHeader) {
    return Unexpected(InvalidArgument("{}: is not a safetensors file ({} bytes){}", path,
                                      file.size(), WrongFileHint(text)));
  }
  if (length > file.size() - kPrefix) {
    return Unexpected(
        InvalidArgument("{}: is truncated: found {} bytes, expected more than {}; "
                        "the download is incomplete",
                        path, file.size(), kPrefix + length));
  }
  HeaderHandler handler;
  const std::string_view json = text.substr(kPrefix, length);
  if (!nlohmann::json::sax_parse(json, &handler)) {
    return Unexpected(
        InvalidArgument("{}: {}; the file is damaged, download it again", path, handler.error));
  }
  RETURN_IF_ERROR(CheckEntries(handler.header, kPrefix + length, file.size(), path));
  return std::move(handler.header);
}

}  // namespace tiercel::checkpoint
