#include "hub/fetch.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/human_bytes.h"
#include "base/log.h"
#include "hub/cache.h"
#include "net/download.h"

namespace tiercel::hub {
namespace {

namespace fs = std::filesystem;

constexpr size_t kParallelDownloads = 4;

std::string PartialPath(const FetchJob& job) { return job.destination + ".incomplete"; }

bool HasChecksum(const HubFile& file) { return !file.sha256.empty() || !file.git_sha1.empty(); }

// Bytes that an earlier download left and that this one goes on from.
int64_t BytesThere(const FetchJob& job) {
  std::error_code error;
  const auto size = fs::file_size(PartialPath(job), error);
  if (error || !HasChecksum(job.file)) return 0;
  return std::min(static_cast<int64_t>(size), std::max<int64_t>(job.file.size, 0));
}

Status MakeFolders(const std::vector<FetchJob>& jobs) {
  for (const FetchJob& job : jobs) {
    const fs::path folder = fs::path(job.destination).parent_path();
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) {
      return FailedPrecondition("{}: cannot be made: {}", folder.string(), error.message());
    }
  }
  return OkStatus();
}

Status CheckDiskSpace(const std::string& destination, int64_t missing) {
  struct statvfs disk {};
  const std::string folder = fs::path(destination).parent_path();
  if (::statvfs(folder.c_str(), &disk) != 0) return OkStatus();
  const auto available = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
  if (available >= missing) return OkStatus();
  return ResourceExhausted("{}: {} are still to come, {} are free; make room, or give another "
                           "folder (--download-dir)",
                           folder, HumanBytes(missing), HumanBytes(available));
}

// What the threads of one FetchAll share.
class Fetcher {
 public:
  Fetcher(const std::vector<FetchJob>& jobs, const FetchOptions& options)
      : jobs_(jobs), options_(options), done_(jobs.size()) {
    for (const FetchJob& job : jobs) total_ += std::max<int64_t>(job.file.size, 0);
  }

  int64_t total() const { return total_; }

  Status Run() {
    std::vector<std::thread> threads;
    for (size_t i = 1; i < std::min(kParallelDownloads, jobs_.size()); ++i) {
      threads.emplace_back([this] { Work(); });
    }
    Work();
    for (std::thread& thread : threads) thread.join();
    return first_error_;
  }

 private:
  void Work() {
    try {
      net::HttpClient client(options_.client);
      for (size_t i; !stop_ && (i = next_++) < jobs_.size();) {
        if (const Status status = Fetch(i, &client); !status.ok()) return Fail(status);
      }
    } catch (const std::exception& error) {
      Fail(ResourceExhausted("download of {}: {}", options_.what, error.what()));
    }
  }

  void Fail(const Status& status) {
    const std::lock_guard lock(mutex_);
    if (first_error_.ok()) first_error_ = status;
    stop_ = true;
  }

  void Report(size_t index, int64_t done) {
    done_[index] = done;
    if (!options_.progress) return;
    int64_t sum = 0;
    for (const auto& part : done_) sum += part;
    options_.progress(sum, total_);
  }

  Status Fetch(size_t index, net::HttpClient* client) {
    const FetchJob& job = jobs_[index];
    const auto lock = FileLock::Take(job.lock, &stop_);
    if (!lock) return lock.error();
    std::error_code error;
    // Another process was faster.
    if (fs::exists(job.destination, error) && VerifyFile(job.file, job.destination).ok()) {
      return OkStatus();
    }
    const std::string partial = PartialPath(job);
    // Without a checksum nothing tells whether parts of two versions were put together.
    if (!HasChecksum(job.file)) fs::remove(partial, error);
    net::DownloadSpec spec;
    spec.url = job.url;
    spec.path = partial;
    spec.headers = options_.headers;
    spec.size = job.file.size;
    spec.denied_hint = options_.denied_hint;
    spec.stop = &stop_;
    for (bool again = true;; again = false) {
      RETURN_IF_ERROR(net::Download(client, spec, [&](int64_t done) { Report(index, done); }));
      const Status status = VerifyFile(job.file, partial);
      if (status.ok()) break;
      fs::remove(partial, error);
      if (!again) return FailedPrecondition("{}: {}", job.url, status.message());
      LOG_WARNING("{}; it is fetched once more", status.message());
    }
    fs::rename(partial, job.destination, error);
    return error ? FailedPrecondition("{}: {}", job.destination, error.message()) : OkStatus();
  }

  const std::vector<FetchJob>& jobs_;
  const FetchOptions& options_;
  int64_t total_ = 0;
  std::vector<std::atomic<int64_t>> done_;  // bytes there, by job
  std::atomic<size_t> next_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  Status first_error_;
};

}  // namespace

Status FetchAll(std::vector<FetchJob> jobs, const FetchOptions& options) {
  // Files of equal content are one blob.
  std::sort(jobs.begin(), jobs.end(), [](const FetchJob& a, const FetchJob& b) {
    return a.destination < b.destination;
  });
  jobs.erase(std::unique(jobs.begin(), jobs.end(),
                         [](const FetchJob& a, const FetchJob& b) {
                           return a.destination == b.destination;
                         }),
             jobs.end());
  if (jobs.empty()) return OkStatus();
  RETURN_IF_ERROR(MakeFolders(jobs));
  Fetcher fetcher(jobs, options);
  int64_t missing = fetcher.total();
  for (const FetchJob& job : jobs) missing -= BytesThere(job);
  RETURN_IF_ERROR(CheckDiskSpace(jobs[0].destination, missing));
  LOG_INFO("Downloading {} from {}: {} files, {}, {} still to come", options.what, options.from,
           jobs.size(), HumanBytes(fetcher.total()), HumanBytes(missing));
  return fetcher.Run();
}

}  // namespace tiercel::hub
