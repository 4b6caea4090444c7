// RecordFile: the lines of a text file, or the entries of a JSON list, without reading them all:
// data sets have up to a gigabyte, of which a benchmark takes some thousand entries.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "platform/mapped_file.h"

namespace tiercel::bench {

class RecordFile {
 public:
  static constexpr size_t kMaxRecords = size_t{1} << 24;
  static constexpr size_t kMaxRecordBytes = size_t{32} << 20;

  // Lines without their ends; empty ones are none. \r\n ends a line as \n does.
  static Expected<RecordFile> OpenLines(const std::string& path);
  // Only their bounds are looked at: an entry may still be no JSON.
  static Expected<RecordFile> OpenJsonList(const std::string& path);

  size_t size() const { return records_.size(); }
  std::string_view text(size_t index) const { return records_[index].text; }
  std::string Where(size_t index) const;  // "FILE: line 3", for messages

 private:
  struct Record {
    std::string_view text;
    size_t number;  // from 1
  };

  explicit RecordFile(platform::MappedFile file) : file_(std::move(file)) {}
  std::string_view bytes() const;
  Status Add(std::string_view text, size_t number);
  Status FindLines();
  Status FindEntries();

  platform::MappedFile file_;
  const char* kind_ = "line";
  std::vector<Record> records_;
};

}  // namespace tiercel::bench
