// Where downloaded models lie on disk: the Hugging Face cache and ModelScope's.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <utility>

#include "base/environ.h"
#include "base/status.h"
#include "hub/listing.h"

namespace tiercel::hub {

// --download-dir, else HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG's or ~/.cache.
std::string HuggingFaceCacheDir(const Environ& environ, const std::string& download_dir);
std::string ModelScopeCacheDir(const Environ& environ, const std::string& download_dir);
// HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the file that `hf auth login` writes; may be empty.
std::string HuggingFaceToken(const Environ& environ);

// Whether the file at `local` is what `file` describes: size and hash. The error names `local`.
Status VerifyFile(const HubFile& file, const std::string& local);

Expected<std::string> Sha256OfFile(const std::string& path);

// The standard layout of one repository: blobs/HASH, snapshots/COMMIT/NAME → ../../blobs/HASH,
// refs/REVISION with the commit's name.
class RepositoryCache {
 public:
  RepositoryCache(std::string cache_dir, const std::string& id);

  std::string BlobPath(const std::string& hash) const { return root_ + "/blobs/" + hash; }
  std::string SnapshotDir(const std::string& commit) const {
    return root_ + "/snapshots/" + commit;
  }
  // The commit that a branch or tag stood for when it was last looked up, or `revision` itself if
  // there is a snapshot of that name.
  std::optional<std::string> FindCommit(const std::string& revision) const;
  // Writes the commit down unless it is written already: the cache may be read-only.
  Status SaveRef(const std::string& revision, const std::string& commit) const;
  // Makes (or renews) the link of `path` in the snapshot to the blob.
  Status Link(const std::string& commit, const std::string& path, const std::string& hash) const;
  // A file that one process at a time holds while it downloads a blob.
  std::string LockPath(const std::string& hash) const;

 private:
  std::string cache_dir_;
  std::string folder_;  // models--org--name
  std::string root_;
};

// Holds an exclusive lock on a file (made if need be) while it lives; waits for others, until
// *stop is set (kCancelled). The system takes the lock from a process that ends.
class FileLock {
 public:
  static Expected<FileLock> Take(const std::string& path, const std::atomic<bool>* stop);
  FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace tiercel::hub
