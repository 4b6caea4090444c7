#include "checkpoint/gguf_file.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/file_hints.h"
#include "checkpoint/gguf_types.h"
#include "checkpoint/tensor_bounds.h"

namespace tiercel::checkpoint {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

// All of the header is read while the file is opened. The largest vocabularies (262,144 tokens with
// merges and scores) take 20 MB; what goes on for longer is not a model, and a sparse file of
// terabytes must not be walked through.
constexpr uint64_t kMaxGgufHeader = uint64_t{256} << 20;
constexpr uint64_t kMaxString = uint64_t{16} << 20;  // a license's text, a chat template
constexpr uint64_t kMaxMetadata = 1 << 16;
constexpr uint32_t kMaxGgufRank = 4;
constexpr int64_t kMaxAlignment = 1 << 20;
constexpr uint64_t kDefaultAlignment = 32;

// Bytes of one array element; 0 for those of varying length.
size_t ElementBytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::kU8:
    case GgufValueType::kI8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kU16:
    case GgufValueType::kI16:
      return 2;
    case GgufValueType::kU32:
    case GgufValueType::kI32:
    case GgufValueType::kF32:
      return 4;
    case GgufValueType::kU64:
    case GgufValueType::kI64:
    case GgufValueType::kF64:
      return 8;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      return 0;
  }
  return 0;
}

template <typename T>
T LoadAs(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

// A scalar of a type whose ElementBytes are at `p`. Integers beyond int64 saturate.
GgufValue LoadScalar(GgufValueType type, const uint8_t* p) {
  switch (type) {
    case GgufValueType::kU8:
      return int64_t{*p};
    case GgufValueType::kI8:
      return int64_t{LoadAs<int8_t>(p)};
    case GgufValueType::kU16:
      return int64_t{LoadAs<uint16_t>(p)};
    case GgufValueType::kI16:
      return int64_t{LoadAs<int16_t>(p)};
    case GgufValueType::kU32:
      return int64_t{LoadAs<uint32_t>(p)};
    case GgufValueType::kI32:
      return int64_t{LoadAs<int32_t>(p)};
    case GgufValueType::kI64:
      return LoadAs<int64_t>(p);
    case GgufValueType::kU64:
      return static_cast<int64_t>(std::min<uint64_t>(LoadAs<uint64_t>(p), INT64_MAX));
    case GgufValueType::kF32:
      return double{LoadAs<float>(p)};
    case GgufValueType::kF64:
      return LoadAs<double>(p);
    case GgufValueType::kBool:
      return *p != 0;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      break;
  }
  return int64_t{0};
}

}  // namespace

// Reads from front to back; a member that returns false has set `error_`.
class GgufParser {
 public:
  GgufParser(std::span<const uint8_t> file, const std::string& path)
      : file_(file), header_(file.first(std::min<size_t>(file.size(), kMaxGgufHeader))), path_(path) {}

  Expected<GgufFile> Parse() {
    RETURN_IF_ERROR(CheckStart());
    uint64_t tensors = 0, entries = 0;
    if (!ReadCount("tensors", kMaxTensors, tensors) ||
        !ReadCount("metadata entries", kMaxMetadata, entries)) {
      return Unexpected(error_);
    }
    for (uint64_t i = 0; i < entries; ++i) {
      if (!ReadEntry()) return Unexpected(error_);
    }
    for (uint64_t i = 0; i < tensors; ++i) {
      if (!ReadTensor()) return Unexpected(error_);
    }
    RETURN_IF_ERROR(PlaceTensors());
    return std::move(result_);
  }

 private:
  Status CheckStart() {
    const std::string_view text(reinterpret_cast<const char*>(file_.data()), file_.size());
    if (text.substr(0, 4) != "GGUF") {
      return InvalidArgument("{}: is not a GGUF file ({} bytes){}", path_, file_.size(),
                             WrongFileHint(text));
    }
    position_ = 4;
    uint32_t version = 0;
    if (!Read(version)) return error_;
    if (version != 2 && version != 3) {
      const bool swapped = version > 0 && version % (1 << 24) == 0;
      return InvalidArgument("{}: found GGUF version {}, expected 2 or 3{}", path_, version,
                             swapped ? "; the file is big-endian" : "");
    }
    return OkStatus();
  }

  size_t Left() const { return header_.size() - position_; }
  const uint8_t* Here() const { return header_.data() + position_; }

  // The header goes on beyond what there is of it.
  bool Truncated(const char* where) {
    if (header_.size() < file_.size()) {
      return Fail("the {} go on beyond byte {}, where the header must have ended", where,
                  header_.size());
    }
    error_ = InvalidArgument(
        "{}: is truncated: found {} bytes, the {} go on beyond them; the "
        "download is incomplete",
        path_, file_.size(), where);
    return false;
  }
  template <typename... Args>
  bool Fail(fmt::format_string<Args...> format, Args&&... args) {
    error_ = InvalidArgument("{}: {}; the file is damaged, download it again", path_,
                             fmt::format(format, std::forward<Args>(args)...));
    return false;
  }

  template <typename T>
  bool Read(T& value) {
    if (Left() < sizeof(T)) return Truncated("header fields");
    value = LoadAs<T>(Here());
    position_ += sizeof(T);
    return true;
  }

  bool ReadCount(const char* what, uint64_t most, uint64_t& count) {
    if (!Read(count)) return false;
    if (count > most) return Fail("found {} {}, expected at most {}", count, what, most);
    return true;
  }

  bool ReadString(uint64_t most, std::string_view& text) {
    uint64_t length = 0;
    if (!Read(length)) return false;
    if (length > most) return Fail("found a string of {} bytes, expected at most {}", length, most);
    if (length > Left()) return Truncated("strings of the header");
    text = {reinterpret_cast<const char*>(Here()), static_cast<size_t>(length)};
    position_ += length;
    return true;
  }

  bool ReadArray(GgufArray& array) {
    uint32_t element = 0;
    if (!Read(element) || !Read(array.count)) return false;
    array.element = static_cast<GgufValueType>(element);
    const size_t begin = position_;
    if (const size_t bytes = ElementBytes(array.element); bytes > 0) {
      if (array.count > Left() / bytes) return Truncated("arrays of the header");
      position_ += array.count * bytes;
    } else if (array.element == GgufValueType::kString) {
      std::string_view ignored;
      for (uint64_t i = 0; i < array.count; ++i) {  // ends with the header at the latest
        if (!ReadString(kMaxString, ignored)) return false;
      }
    } else {
      return Fail("found an array of type {}", element);
    }
    array.bytes = header_.subspan(begin, position_ - begin);
    return true;
  }

  bool ReadEntry() {
    std::string_view key;
    uint32_t number = 0;
    if (!ReadString(kMaxName, key) || !Read(number)) return false;
    const auto type = static_cast<GgufValueType>(number);
    GgufValue value;
    if (type == GgufValueType::kString) {
      std::string_view text;
      if (!ReadString(kMaxString, text)) return false;
      value = text;
    } else if (type == GgufValueType::kArray) {
      GgufArray array;
      if (!ReadArray(array)) return false;
      value = array;
    } else {
      const size_t bytes = ElementBytes(type);
      if (bytes == 0) return Fail("metadata \"{}\" has type {}", Short(key), number);
      if (bytes > Left()) return Truncated("metadata entries");
      value = LoadScalar(type, Here());
      position_ += bytes;
    }
    if (!result_.metadata_.emplace(std::string(key), value).second) {
      return Fail("metadata \"{}\" is there twice", Short(key));
    }
    return true;
  }

  bool ReadTensor() {
    std::string_view name;
    uint32_t rank = 0;
    if (!ReadString(kMaxName, name) || !Read(rank)) return false;
    if (rank > kMaxGgufRank) return Fail("tensor \"{}\" has {} dimensions", Short(name), rank);
    GgufTensor tensor;
    for (uint32_t i = 0; i < rank; ++i) {
      uint64_t dimension = 0;
      if (!Read(dimension)) return false;
      if (dimension == 0 || dimension > kMaxDimension) {
        return Fail("tensor \"{}\" has the dimension {}", Short(name), dimension);
      }
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(dimension));
    }
    if (!Read(tensor.type) || !Read(tensor.begin)) return false;
    const Expected<GgufBlock> block = GgufBlockOf(tensor.type);
    if (!block) {
      error_ = Unimplemented("{}: tensor \"{}\": {}", path_, Short(name), block.error().message());
      return false;
    }
    if (!SetSize(name, *block, tensor)) return false;
    if (!result_.tensors_.emplace(std::string(name), std::move(tensor)).second) {
      return Fail("tensor \"{}\" is there twice", Short(name));
    }
    return true;
  }

  // Sets `end` to begin + size, both relative to the data.
  bool SetSize(std::string_view name, GgufBlock block, GgufTensor& tensor) {
    const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (row % block.elements != 0) {
      return Fail("tensor \"{}\" of type {} has rows of {}, expected a multiple of {}", Short(name),
                  GgufTypeName(tensor.type), row, block.elements);
    }
    uint64_t bytes = static_cast<uint64_t>(row / block.elements * block.bytes);
    bool overflow = false;
    for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) {
      overflow |= __builtin_mul_overflow(bytes, static_cast<uint64_t>(tensor.shape[i]), &bytes);
    }
    overflow |= __builtin_add_overflow(tensor.begin, bytes, &tensor.end);
    if (overflow || bytes > uint64_t{1} << 60) {
      return Fail("tensor \"{}\" has an impossible size", Short(name));
    }
    return true;
  }

  Expected<uint64_t> Alignment() const {
    constexpr const char* kKey = "general.alignment";
    if (!result_.Has(kKey)) return kDefaultAlignment;
    const int64_t alignment = result_.Int(kKey).value_or(0);
    if (alignment < 1 || alignment > kMaxAlignment || !std::has_single_bit(static_cast<uint64_t>(alignment))) {
      return Unexpected(InvalidArgument("{}: {}: found {}, expected a power of two", path_, kKey, result_.Show(kKey)));
    }
    return static_cast<uint64_t>(alignment);
  }

  Status PlaceTensors() {
    ASSIGN_OR_RETURN(const uint64_t alignment, Alignment());
    const uint64_t start = (position_ + alignment - 1) / alignment * alignment;
    std::vector<std::pair<const std::string*, GgufTensor*>> order;
    for (auto& [name, tensor] : result_.tensors_) order.emplace_back(&name, &tensor);
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
      return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
    });
    uint64_t last = 0;
    for (const auto& [name, tensor] : order) {
      if (tensor->begin < last || tensor->begin % alignment != 0) {
        return InvalidArgument(
            "{}: tensor \"{}\" begins at byte {} of the data, expected a "
            "multiple of {} from {} on; the file is damaged, download it again",
            path_, Short(*name), tensor->begin, alignment, last);
      }
      last = tensor->end;
    }
    const uint64_t available = file_.size() > start ? file_.size() - start : 0;
    if (last > available) {
      const uint64_t expected = last > UINT64_MAX - start ? UINT64_MAX : start + last;
      return InvalidArgument(
          "{}: is truncated: found {} bytes, expected {}; the download is "
          "incomplete",
          path_, file_.size(), expected);
    }
    for (const auto& [name, tensor] : order) {
      tensor->begin += start;
      tensor->end += start;
    }
    return OkStatus();
  }

  static std::string Short(std::string_view name) { return std::string(name.substr(0, 100)); }

  const std::span<const uint8_t> file_;
  const std::span<const uint8_t> header_;  // as much of the file as the header may take
  const std::string& path_;
  size_t position_ = 0;
  GgufFile result_;
  Status error_;
};

Expected<GgufFile> GgufFile::Parse(std::span<const uint8_t> file, const std::string& path) {
  return GgufParser(file, path).Parse();
}

namespace {

template <typename T, typename Map>
const T* Get(const Map& metadata, std::string_view key) {
  const auto it = metadata.find(key);
  return it == metadata.end() ? nullptr : std::get_if<T>(&it->second);
}

}  // namespace

std::string GgufFile::Show(std::string_view key) const {
  constexpr size_t kMost = 60;
  const auto it = metadata_.find(key);
  if (it == metadata_.end()) return "nothing";
  if (const auto* text = std::get_if<std::string_view>(&it->second)) {
    return fmt::format("\"{}{}\"", text->substr(0, kMost), text->size() > kMost ? "…" : "");
  }
  if (const auto* array = std::get_if<GgufArray>(&it->second)) return fmt::format("a list of {}", array->count);
  if (const auto* flag = std::get_if<bool>(&it->second)) return *flag ? "true" : "false";
  if (const auto* number = std::get_if<double>(&it->second)) return fmt::format("{}", *number);
  return fmt::format("{}", std::get<int64_t>(it->second));
}

std::optional<int64_t> GgufFile::Int(std::string_view key) const {
  const int64_t* value = Get<int64_t>(metadata_, key);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<double> GgufFile::Number(std::string_view key) const {
  if (const double* value = Get<double>(metadata_, key)) return *value;
  if (const std::optional<int64_t> value = Int(key)) return static_cast<double>(*value);
  return std::nullopt;
}

std::optional<bool> GgufFile::Bool(std::string_view key) const {
  const bool* value = Get<bool>(metadata_, key);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<std::string> GgufFile::String(std::string_view key) const {
  const std::string_view* value = Get<std::string_view>(metadata_, key);
  return value != nullptr ? std::optional(std::string(*value)) : std::nullopt;
}

const GgufArray* GgufFile::Array(std::string_view key) const {
  return Get<GgufArray>(metadata_, key);
}

std::optional<std::vector<std::string>> GgufFile::Strings(const GgufArray& array, uint64_t most) {
  if (array.element != GgufValueType::kString || array.count > most) return std::nullopt;
  std::vector<std::string> strings;
  strings.reserve(array.count);
  const uint8_t* p = array.bytes.data();
  for (uint64_t i = 0; i < array.count; ++i) {
    const auto length = static_cast<size_t>(LoadAs<uint64_t>(p));
    strings.emplace_back(reinterpret_cast<const char*>(p + 8), length);
    p += 8 + length;
  }
  return strings;
}

std::optional<std::vector<double>> GgufFile::Numbers(const GgufArray& array, uint64_t most) {
  const size_t bytes = ElementBytes(array.element);
  if (bytes == 0 || array.element == GgufValueType::kBool || array.count > most) {
    return std::nullopt;
  }
  std::vector<double> numbers;
  numbers.reserve(array.count);
  for (uint64_t i = 0; i < array.count; ++i) {
    const GgufValue value = LoadScalar(array.element, array.bytes.data() + i * bytes);
    const double* real = std::get_if<double>(&value);
    numbers.push_back(real != nullptr ? *real : static_cast<double>(std::get<int64_t>(value)));
  }
  return numbers;
}

}  // namespace tiercel::checkpoint
