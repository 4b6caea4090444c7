// FileRecord: what was checked of a folder in which revisions replace each other.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/status.h"
#include "hub/listing.h"

namespace tiercel::hub {

// ModelScope keeps one folder for all revisions of a model, under the files' own names. This
// record, a small file in it, says which revision is there and which checksum each file was found
// to have, so that gigabytes are not read at every start. A file that has changed since (size or
// time of change) is no longer in it.
class FileRecord {
 public:
  // Reads the record of `folder`; an absent or unreadable one is empty.
  explicit FileRecord(std::string folder);

  bool empty() const { return entries_.empty(); }
  // "" where there is no record.
  const std::string& revision() const { return revision_; }
  // Whether all files that were recorded are still as they were.
  bool Unchanged() const;
  // Whether `file` is there with its checksum. Reads the file where the record does not know it,
  // and then knows it. A file without a checksum counts if its size is right and `revision` is
  // the one on record.
  bool Has(const HubFile& file, const std::string& revision);
  // Forgets all but `files`, which were checked, and writes the record.
  Status Save(const std::string& revision, const std::vector<HubFile>& files);

 private:
  struct Entry {
    std::string sha256;  // "-": none
    int64_t size = -1;
    int64_t changed_ns = 0;
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  // The file as it is now, size −1 if it is none.
  Entry Now(const std::string& name, const std::string& sha256) const;
  std::string Path() const { return folder_ + "/.tiercel-files"; }

  const std::string folder_;
  std::string revision_;
  std::map<std::string, Entry> entries_;  // by name
};

}  // namespace tiercel::hub
