#include "bench/record_file.h"

#include <fmt/format.h>

#include <algorithm>

namespace tiercel::bench {
namespace {

constexpr std::string_view kJsonBlanks = " \t\r\n";

// The end of the JSON value that begins at `at`, by its brackets and strings alone; npos: there is
// none.
size_t EndOfValue(std::string_view text, size_t at) {
  size_t depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      for (++at; at < text.size() && text[at] != '"'; ++at) at += text[at] == '\\';
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return at;
      if (--depth == 0) return at + 1;
    } else if (c == ',' && depth == 0) {
      return at;
    }
    ++at;
  }
  return std::string_view::npos;
}

}  // namespace

Expected<RecordFile> RecordFile::OpenLines(const std::string& path) {
  ASSIGN_OR_RETURN(platform::MappedFile file, platform::MappedFile::Open(path));
  RecordFile records(std::move(file));
  RETURN_IF_ERROR(records.FindLines());
  return records;
}

Expected<RecordFile> RecordFile::OpenJsonList(const std::string& path) {
  ASSIGN_OR_RETURN(platform::MappedFile file, platform::MappedFile::Open(path));
  RecordFile records(std::move(file));
  records.kind_ = "entry";
  RETURN_IF_ERROR(records.FindEntries());
  return records;
}

std::string_view RecordFile::bytes() const {
  return {reinterpret_cast<const char*>(file_.bytes().data()), file_.bytes().size()};
}

std::string RecordFile::Where(size_t index) const {
  return fmt::format("{}: {} {}", file_.path(), kind_, records_[index].number);
}

Status RecordFile::Add(std::string_view text, size_t number) {
  if (text.size() > kMaxRecordBytes) {
    return InvalidArgument("{}: {} {}: found {} bytes, expected at most {}", file_.path(), kind_,
                           number, text.size(), kMaxRecordBytes);
  }
  if (records_.size() == kMaxRecords) {
    return InvalidArgument("{}: found more than {} records", file_.path(), kMaxRecords);
  }
  records_.push_back({text, number});
  return OkStatus();
}

Status RecordFile::FindLines() {
  std::string_view left = bytes();
  for (size_t number = 1; !left.empty(); ++number) {
    const size_t end = std::min(left.find('\n'), left.size());
    std::string_view line = left.substr(0, end);
    left.remove_prefix(std::min(end + 1, left.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) RETURN_IF_ERROR(Add(line, number));
  }
  return OkStatus();
}

Status RecordFile::FindEntries() {
  const std::string_view text = bytes();
  const auto skip = [&](size_t at) {
    return std::min(text.find_first_not_of(kJsonBlanks, at), text.size());
  };
  size_t at = skip(0);
  if (at == text.size() || text[at] != '[') {
    return InvalidArgument("{}: found no JSON list", file_.path());
  }
  at = skip(at + 1);
  if (at < text.size() && text[at] == ']') return OkStatus();
  for (size_t number = 1;; ++number) {
    const size_t end = EndOfValue(text, at);
    if (end >= text.size()) {
      return InvalidArgument("{}: entry {}: the list ends within it", file_.path(), number);
    }
    RETURN_IF_ERROR(Add(text.substr(at, end - at), number));
    at = skip(end);
    if (at < text.size() && text[at] == ']') return OkStatus();
    if (at == text.size() || text[at] != ',') {
      return InvalidArgument("{}: entry {}: expected ',' or ']' behind it", file_.path(), number);
    }
    at = skip(at + 1);
  }
}

}  // namespace tiercel::bench
