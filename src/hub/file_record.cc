#include "hub/file_record.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "hub/cache.h"

namespace tiercel::hub {
namespace {

// Above what any listing within its bounds writes.
constexpr int64_t kMaxRecordBytes = 16 << 20;

}  // namespace

FileRecord::FileRecord(std::string folder) : folder_(std::move(folder)) {
  std::error_code error;
  const auto size = std::filesystem::file_size(Path(), error);
  if (error || static_cast<int64_t>(size) > kMaxRecordBytes) return;
  std::ifstream file(Path());
  if (!std::getline(file, revision_)) return;
  Entry entry;
  std::string name;
  while (file >> entry.sha256 >> entry.size >> entry.changed_ns && file.get() == ' ' &&
         std::getline(file, name)) {
    entries_[name] = entry;
  }
}

FileRecord::Entry FileRecord::Now(const std::string& name, const std::string& sha256) const {
  struct stat info {};
  if (::stat((folder_ + "/" + name).c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return {};
  return {sha256.empty() ? "-" : sha256, info.st_size,
          info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec};
}

bool FileRecord::Unchanged() const {
  return std::all_of(entries_.begin(), entries_.end(), [this](const auto& entry) {
    return IsSafePath(entry.first) && Now(entry.first, entry.second.sha256) == entry.second;
  });
}

bool FileRecord::Has(const HubFile& file, const std::string& revision) {
  const Entry now = Now(file.path, file.sha256);
  if (now.size < 0 || (file.size >= 0 && file.size != now.size)) return false;
  const auto known = entries_.find(file.path);
  const bool recorded = known != entries_.end() && known->second == now;
  if (file.sha256.empty()) return recorded && revision == revision_;
  if (recorded) return true;
  if (!VerifyFile(file, folder_ + "/" + file.path).ok()) return false;
  entries_[file.path] = now;
  return true;
}

Status FileRecord::Save(const std::string& revision, const std::vector<HubFile>& files) {
  std::map<std::string, Entry> entries;
  for (const HubFile& file : files) entries[file.path] = Now(file.path, file.sha256);
  if (revision == revision_ && entries == entries_ && std::filesystem::exists(Path())) {
    return OkStatus();
  }
  revision_ = revision;
  entries_ = std::move(entries);
  const std::string fresh = Path() + ".incomplete";
  std::ofstream file(fresh);
  file << revision_ << '\n';
  for (const auto& [name, entry] : entries_) {
    file << entry.sha256 << ' ' << entry.size << ' ' << entry.changed_ns << ' ' << name << '\n';
  }
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(fresh, Path(), error);
  return file && !error ? OkStatus() : FailedPrecondition("{}: cannot be written", Path());
}

}  // namespace tiercel::hub
