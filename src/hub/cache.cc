#include "hub/cache.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "base/log.h"

namespace tiercel::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kLockPoll{100};

std::string HuggingFaceHome(const Environ& environ) {
  const std::string home = EnvValue(environ, "HF_HOME");
  return home.empty() ? CacheHome(environ) + "/huggingface" : home;
}

std::string ReadFirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back()))) line.pop_back();
  return line;
}

// The digest of `prefix` followed by the file, as lower-case hex.
Expected<std::string> HashFile(const EVP_MD* kind, const std::string& prefix,
                               const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Unexpected(NotFound("{}: {}", path, std::strerror(errno)));
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), kind, nullptr);
  EVP_DigestUpdate(context.get(), prefix.data(), prefix.size());
  std::vector<char> piece(1 << 20);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())), file.gcount() > 0) {
    EVP_DigestUpdate(context.get(), piece.data(), static_cast<size_t>(file.gcount()));
  }
  if (file.bad()) return Unexpected(Internal("{}: cannot be read", path));
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(context.get(), digest, &size);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

Status MakeFolders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  return error ? FailedPrecondition("{}: cannot be made: {}", folder.string(), error.message())
               : OkStatus();
}

}  // namespace

std::string HuggingFaceCacheDir(const Environ& environ, const std::string& download_dir) {
  if (!download_dir.empty()) return download_dir;
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const std::string dir = EnvValue(environ, name); !dir.empty()) return dir;
  }
  return HuggingFaceHome(environ) + "/hub";
}

std::string ModelScopeCacheDir(const Environ& environ, const std::string& download_dir) {
  if (!download_dir.empty()) return download_dir;
  const std::string dir = EnvValue(environ, "MODELSCOPE_CACHE");
  return dir.empty() ? CacheHome(environ) + "/modelscope/hub" : dir;
}

std::string HuggingFaceToken(const Environ& environ) {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
    if (const std::string token = EnvValue(environ, name); !token.empty()) return token;
  }
  const std::string path = EnvValue(environ, "HF_TOKEN_PATH");
  return ReadFirstLine(path.empty() ? HuggingFaceHome(environ) + "/token" : path);
}

Expected<std::string> Sha256OfFile(const std::string& path) {
  return HashFile(EVP_sha256(), "", path);
}

Status VerifyFile(const HubFile& file, const std::string& local) {
  std::error_code error;
  const auto size = static_cast<int64_t>(fs::file_size(local, error));
  if (error) return NotFound("{}: {}", local, error.message());
  if (file.size >= 0 && size != file.size) {
    return FailedPrecondition("{}: found {} bytes, the hub says {}", file.path, size, file.size);
  }
  const bool large = !file.sha256.empty();
  const std::string& expected = large ? file.sha256 : file.git_sha1;
  if (expected.empty()) return OkStatus();
  const std::string header = "blob " + std::to_string(size) + std::string(1, '\0');
  ASSIGN_OR_RETURN(const std::string found, large ? Sha256OfFile(local)
                                                  : HashFile(EVP_sha1(), header, local));
  if (found == expected) return OkStatus();
  return FailedPrecondition("{}: checksum {} found, the hub says {}", file.path, found, expected);
}

RepositoryCache::RepositoryCache(std::string cache_dir, const std::string& id)
    : cache_dir_(std::move(cache_dir)), folder_("models--" + id) {
  for (size_t at = 0; (at = folder_.find('/', at)) != std::string::npos;) {
    folder_.replace(at, 1, "--");
  }
  root_ = cache_dir_ + "/" + folder_;
}

std::optional<std::string> RepositoryCache::FindCommit(const std::string& revision) const {
  const std::string commit = ReadFirstLine(root_ + "/refs/" + revision);
  if (!commit.empty() && fs::is_directory(SnapshotDir(commit))) return commit;
  if (fs::is_directory(SnapshotDir(revision))) return revision;
  return std::nullopt;
}

Status RepositoryCache::SaveRef(const std::string& revision, const std::string& commit) const {
  const fs::path path = root_ + "/refs/" + revision;
  if (revision == commit || ReadFirstLine(path) == commit) return OkStatus();
  RETURN_IF_ERROR(MakeFolders(path.parent_path()));
  std::ofstream file(path);
  file << commit;
  file.close();
  return file ? OkStatus() : FailedPrecondition("{}: cannot be written", path.string());
}

Status RepositoryCache::Link(const std::string& commit, const std::string& path,
                             const std::string& hash) const {
  const fs::path link = SnapshotDir(commit) + "/" + path;
  RETURN_IF_ERROR(MakeFolders(link.parent_path()));
  const fs::path target = fs::path(BlobPath(hash)).lexically_relative(link.parent_path());
  std::error_code error;
  if (fs::read_symlink(link, error) == target && !error) return OkStatus();
  fs::remove(link, error);
  fs::create_symlink(target, link, error);
  return error ? FailedPrecondition("{}: cannot be linked: {}", link.string(), error.message())
               : OkStatus();
}

std::string RepositoryCache::LockPath(const std::string& hash) const {
  return cache_dir_ + "/.locks/" + folder_ + "/" + hash + ".lock";
}

Expected<FileLock> FileLock::Take(const std::string& path, const std::atomic<bool>* stop) {
  RETURN_IF_ERROR(MakeFolders(fs::path(path).parent_path()));
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) {
    return Unexpected(FailedPrecondition("{}: cannot be opened: {}", path, std::strerror(errno)));
  }
  FileLock lock(fd);
  for (int tries = 0; ::flock(fd, LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (errno != EINTR && errno != EWOULDBLOCK) {
      return Unexpected(FailedPrecondition("{}: cannot be locked: {}", path,
                                           std::strerror(errno)));
    }
    if (stop->load()) return Unexpected(Status(StatusCode::kCancelled, "stopped"));
    if (tries == 0) LOG_INFO("{}: waiting for another process that downloads this file", path);
    std::this_thread::sleep_for(kLockPoll);
  }
  return lock;
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace tiercel::hub
