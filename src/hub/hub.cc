#include "hub/hub.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/human_bytes.h"
#include "base/log.h"
#include "hub/cache.h"
#include "hub/files.h"
#include "hub/listing.h"
#include "net/download.h"
#include "net/http_client.h"

namespace tiercel::hub {
namespace {

namespace fs = std::filesystem;

constexpr int kParallelDownloads = 4;

// The parts in which Hugging Face and ModelScope differ.
struct Hub {
  std::string name;
  std::string endpoint;
  std::string token;
  std::string default_revision;
  Expected<Listing> (*list)(const Hub& hub, const std::string& id, const std::string& revision);
  std::string (*file_url)(const Hub& hub, const std::string& id, const std::string& commit,
                          const std::string& path);
};

std::string UrlEncode(std::string_view text, std::string_view kept) {
  std::string out;
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                       std::string_view("-._~").find(c) != std::string_view::npos ||
                       kept.find(c) != std::string_view::npos;
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

net::HttpHeaders AuthHeaders(const Hub& hub) {
  net::HttpHeaders headers = {{"User-Agent", "tiercel"}};
  if (!hub.token.empty()) headers.emplace_back("Authorization", "Bearer " + hub.token);
  return headers;
}

// One line for a status that is not 200.
Status StatusError(const Hub& hub, const std::string& id, const std::string& revision, int status) {
  switch (status) {
    case 401:
    case 403:
      return FailedPrecondition(
          "{}: access denied by {} (HTTP {}): the model is private, gated or does not exist; {}",
          id, hub.endpoint, status,
          hub.token.empty() ? "give a token (HF_TOKEN or --hf-token)"
                            : "the token given has no right to it");
    case 404:
      return NotFound("{}: {} has no such model with revision '{}' (HTTP 404)", id, hub.endpoint,
                      revision);
    default:
      return Unavailable("{}: {} answered with HTTP {}", id, hub.endpoint, status);
  }
}

Expected<std::string> GetText(const Hub& hub, const std::string& id, const std::string& revision,
                              const std::string& url) {
  net::HttpClient client;
  auto response = client.Get(url, AuthHeaders(hub));
  if (!response) {
    return Unexpected(Unavailable(
        "{}: is neither a file or folder here nor can it be looked up at {}: {}", id, hub.endpoint,
        response.error().message()));
  }
  if (response->status != 200) {
    return Unexpected(StatusError(hub, id, revision, response->status));
  }
  return std::move(response->body);
}

Expected<Listing> ListHuggingFace(const Hub& hub, const std::string& id,
                                  const std::string& revision) {
  const std::string url = fmt::format("{}/api/models/{}/revision/{}?blobs=true", hub.endpoint, id,
                                      UrlEncode(revision, ""));
  ASSIGN_OR_RETURN(const std::string text, GetText(hub, id, revision, url));
  return ParseHuggingFaceListing(text, url);
}

std::string HuggingFaceUrl(const Hub& hub, const std::string& id, const std::string& commit,
                           const std::string& path) {
  return fmt::format("{}/{}/resolve/{}/{}", hub.endpoint, id, commit, UrlEncode(path, "/"));
}

Expected<Listing> ListModelScope(const Hub& hub, const std::string& id,
                                 const std::string& revision) {
  const std::string url = fmt::format("{}/api/v1/models/{}/repo/files?Revision={}&Recursive=true",
                                      hub.endpoint, id, UrlEncode(revision, ""));
  ASSIGN_OR_RETURN(const std::string text, GetText(hub, id, revision, url));
  return ParseModelScopeListing(text, revision, url);
}

std::string ModelScopeUrl(const Hub& hub, const std::string& id, const std::string& commit,
                          const std::string& path) {
  return fmt::format("{}/api/v1/models/{}/repo?Revision={}&FilePath={}", hub.endpoint, id,
                     UrlEncode(commit, ""), UrlEncode(path, ""));
}

std::string TrimSlash(std::string text) {
  while (text.ends_with('/')) text.pop_back();
  return text;
}

Hub HuggingFaceHub(const HubOptions& options, const Environ& environ) {
  const std::string endpoint = EnvValue(environ, "HF_ENDPOINT");
  return {"Hugging Face", TrimSlash(endpoint.empty() ? "https://huggingface.co" : endpoint),
          options.token.empty() ? HuggingFaceToken(environ) : options.token, "main",
          &ListHuggingFace, &HuggingFaceUrl};
}

Hub ModelScopeHub(const HubOptions& options, const Environ& environ) {
  const std::string scheme = EnvValue(environ, "MODELSCOPE_URL_SCHEME");
  const std::string domain = EnvValue(environ, "MODELSCOPE_DOMAIN");
  return {"ModelScope",
          TrimSlash((scheme.empty() ? "https://" : scheme) +
                    (domain.empty() ? "www.modelscope.cn" : domain)),
          options.token.empty() ? EnvValue(environ, "MODELSCOPE_API_TOKEN") : options.token,
          "master", &ListModelScope, &ModelScopeUrl};
}

// A file to have at `destination`.
struct Job {
  HubFile file;
  std::string url;
  std::string destination;  // downloaded as destination + ".incomplete"
  std::string lock;
};

Status CheckDiskSpace(const std::vector<Job>& jobs) {
  int64_t needed = 0;
  for (const Job& job : jobs) needed += std::max<int64_t>(job.file.size, 0);
  struct statvfs disk;
  const std::string folder = fs::path(jobs[0].destination).parent_path();
  if (::statvfs(folder.c_str(), &disk) != 0) return OkStatus();
  const auto available = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
  if (available >= needed) return OkStatus();
  return ResourceExhausted("{}: {} are needed, {} are free; give another folder (--download-dir)",
                           folder, HumanBytes(needed), HumanBytes(available));
}

// Downloads one file and checks it. A file that turns out wrong is fetched once more from the start.
Status Fetch(const Job& job, net::HttpClient* client, const net::HttpHeaders& headers,
             const net::Progress& progress) {
  auto lock = FileLock::Take(job.lock);
  if (!lock) return lock.error();
  std::error_code error;
  if (fs::exists(job.destination, error)) return OkStatus();  // another process was faster
  const std::string partial = job.destination + ".incomplete";
  Status status;
  for (int attempt = 0; attempt < 2; ++attempt) {
    status = net::Download(client, job.url, partial, headers, progress);
    if (!status.ok()) return status;
    status = VerifyFile(job.file, partial);
    if (status.ok()) {
      fs::rename(partial, job.destination, error);
      return error ? FailedPrecondition("{}: {}", job.destination, error.message()) : OkStatus();
    }
    LOG_WARNING("{}", status.message());
    fs::remove(partial, error);
  }
  return FailedPrecondition("download failed: {}", status.message());
}

Status FetchAll(const Hub& hub, const std::string& id, const std::vector<Job>& jobs,
                const Progress& on_progress) {
  if (jobs.empty()) return OkStatus();
  std::error_code error;
  for (const Job& job : jobs) {
    fs::create_directories(fs::path(job.destination).parent_path(), error);
    if (error) {
      return FailedPrecondition("{}: cannot be made: {}",
                                fs::path(job.destination).parent_path().string(), error.message());
    }
  }
  RETURN_IF_ERROR(CheckDiskSpace(jobs));
  int64_t total = 0;
  for (const Job& job : jobs) total += std::max<int64_t>(job.file.size, 0);
  LOG_INFO("Downloading {} from {}: {} files, {}", id, hub.endpoint, jobs.size(),
           HumanBytes(total));

  std::vector<std::atomic<int64_t>> done(jobs.size());
  std::atomic<size_t> next{0};
  std::mutex mutex;
  Status first_error;
  const auto work = [&] {
    net::HttpClient client;
    for (size_t i; (i = next++) < jobs.size();) {
      const auto progress = [&](int64_t bytes, int64_t) {
        done[i] = bytes;
        int64_t sum = 0;
        for (const auto& part : done) sum += part;
        if (on_progress) on_progress(sum, total);
        return true;
      };
      const Status status = Fetch(jobs[i], &client, AuthHeaders(hub), progress);
      if (status.ok()) continue;
      const std::lock_guard lock(mutex);
      if (first_error.ok()) first_error = status;
      next = jobs.size();
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min<size_t>(kParallelDownloads, jobs.size()); ++i) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) thread.join();
  return first_error;
}

Expected<std::string> DownloadHuggingFace(const Hub& hub, const HubId& id,
                                          const std::string& revision,
                                          const std::string& cache_dir, bool offline,
                                          const Progress& progress) {
  const RepositoryCache cache(cache_dir, id.repository);
  const std::optional<std::string> cached = cache.FindCommit(revision);
  if (offline) {
    if (cached) return LocalModel(cache.SnapshotDir(*cached), id);
    return Unexpected(NotFound(
        "{}: not in the cache {} and HF_HUB_OFFLINE is set: download it first, or unset it",
        id.repository, cache_dir));
  }
  auto listing = hub.list(hub, id.repository, revision);
  if (!listing) {
    if (!cached || listing.error().code() != StatusCode::kUnavailable) {
      return Unexpected(listing.error());
    }
    LOG_WARNING("{}; using the copy in the cache", listing.error().message());
    return LocalModel(cache.SnapshotDir(*cached), id);
  }
  ASSIGN_OR_RETURN(const std::vector<HubFile> files, SelectFiles(listing->files, id));
  std::vector<Job> jobs;
  for (const HubFile& file : files) {
    const std::string hash = BlobName(file, listing->commit);
    if (!fs::exists(cache.BlobPath(hash))) {
      jobs.push_back({file, hub.file_url(hub, id.repository, listing->commit, file.path),
                      cache.BlobPath(hash), cache.LockPath(hash)});
    }
  }
  RETURN_IF_ERROR(FetchAll(hub, id.repository, jobs, progress));
  for (const HubFile& file : files) {
    RETURN_IF_ERROR(cache.Link(listing->commit, file.path, BlobName(file, listing->commit)));
  }
  RETURN_IF_ERROR(cache.SaveRef(revision, listing->commit));
  return LocalModel(cache.SnapshotDir(listing->commit), id);
}

Expected<std::string> DownloadModelScope(const Hub& hub, const HubId& id,
                                         const std::string& revision, const std::string& cache_dir,
                                         bool offline, const Progress& progress) {
  const std::string folder = ModelScopeFolder(cache_dir, id.repository);
  if (offline) {
    if (fs::is_directory(folder)) return LocalModel(folder, id);
    return Unexpected(NotFound("{}: not in the cache {} and HF_HUB_OFFLINE is set", id.repository,
                               cache_dir));
  }
  auto listing = hub.list(hub, id.repository, revision);
  if (!listing) {
    if (!fs::exists(folder + "/config.json") ||
        listing.error().code() != StatusCode::kUnavailable) {
      return Unexpected(listing.error());
    }
    LOG_WARNING("{}; using the copy in the cache", listing.error().message());
    return LocalModel(folder, id);
  }
  ASSIGN_OR_RETURN(const std::vector<HubFile> files, SelectFiles(listing->files, id));
  std::vector<Job> jobs;
  for (const HubFile& file : files) {
    const std::string destination = folder + "/" + file.path;
    std::error_code error;
    const auto size = static_cast<int64_t>(fs::file_size(destination, error));
    if (!error && (file.size < 0 || size == file.size)) continue;
    fs::remove(destination, error);  // another revision's
    jobs.push_back({file, hub.file_url(hub, id.repository, listing->commit, file.path),
                    destination, fmt::format("{}/._lock/{}.lock", cache_dir, BlobName(file, id.repository))});
  }
  RETURN_IF_ERROR(FetchAll(hub, id.repository, jobs, progress));
  return LocalModel(folder, id);
}

}  // namespace

Expected<std::string> ResolveModel(const std::string& model, const HubOptions& options,
                                   const Environ& environ, const Progress& progress) {
  std::error_code error;
  if (fs::exists(model, error)) return model;
  const std::optional<HubId> id = ParseHubId(model);
  if (!id) return Unexpected(NotFound("{}: no such file or folder", model));
  const bool offline =
      EnvIsOn(environ, "HF_HUB_OFFLINE") || EnvIsOn(environ, "TRANSFORMERS_OFFLINE");
  const bool modelscope = EnvIsOn(environ, "VLLM_USE_MODELSCOPE");
  const Hub hub = modelscope ? ModelScopeHub(options, environ) : HuggingFaceHub(options, environ);
  const std::string revision = options.revision.empty() ? hub.default_revision : options.revision;
  if (revision.find("..") != std::string::npos || revision.starts_with('/')) {
    return Unexpected(InvalidArgument("argument --revision: '{}' is no revision", revision));
  }
  if (modelscope) {
    return DownloadModelScope(hub, *id, revision,
                              ModelScopeCacheDir(environ, options.download_dir), offline, progress);
  }
  return DownloadHuggingFace(hub, *id, revision,
                             HuggingFaceCacheDir(environ, options.download_dir), offline, progress);
}

}  // namespace tiercel::hub
