#include "hub/hub.h"

#include <filesystem>
#include <optional>
#include <vector>

#include "base/log.h"
#include "hub/cache.h"
#include "hub/fetch.h"
#include "hub/file_record.h"
#include "hub/files.h"
#include "hub/listing.h"
#include "hub/remote.h"

namespace tiercel::hub {
namespace {

namespace fs = std::filesystem;

// What was asked for, and where it may lie already.
struct Request {
  Remote remote;
  HubId id;
  std::string revision;
  std::string cache_dir;
  bool offline;
  bool with_weights;
  Progress progress;

  FetchOptions fetch_options() const {
    return {id.repository,       remote.endpoint,       remote.Headers(), remote.client,
            remote.DeniedHint(), progress};
  }
  Status NotCached() const {
    return FailedPrecondition(
        "{}: not in the cache {} and HF_HUB_OFFLINE is set: download it first, or unset it",
        id.repository, cache_dir);
  }
  // With a copy at hand the start does not wait for a hub that is away.
  net::RetryOptions retry(bool has_copy) const {
    net::RetryOptions options;
    if (has_copy) options.max_tries = 2;
    return options;
  }
};

// What the network says is weighed against what is there: a whole copy is used, with a warning.
Expected<std::string> UseCopy(const Status& error, const std::string& folder,
                              const Request& request) {
  auto local = LocalModel(folder, request.id);
  const std::string missing =
      local ? MissingFile(folder, request.with_weights) : request.id.variant + " file";
  if (!missing.empty()) {
    return Unexpected(Status(error.code(), fmt::format("{}; the copy in the cache is not whole: {} "
                                                       "has no {}",
                                                       error.message(), folder, missing)));
  }
  LOG_WARNING("{}; using the copy in the cache, {}", error.message(), folder);
  return local;
}

// Whether a failed download is the network's or the hub's fault. A full disk, say, is not.
bool IsRemoteFault(const Status& error) {
  return error.code() == StatusCode::kUnavailable || error.code() == StatusCode::kNotFound;
}

Expected<std::string> FromHuggingFace(const Request& request) {
  const RepositoryCache cache(request.cache_dir, request.id.repository);
  const std::optional<std::string> cached = cache.FindCommit(request.revision);
  const auto copy = [&](const Status& error) -> Expected<std::string> {
    if (!cached) return Unexpected(error);
    return UseCopy(error, cache.SnapshotDir(*cached), request);
  };
  if (request.offline) {
    if (!cached) return Unexpected(request.NotCached());
    return LocalModel(cache.SnapshotDir(*cached), request.id);
  }
  const std::string& repository = request.id.repository;
  auto listing =
      request.remote.List(repository, request.revision, request.retry(cached.has_value()));
  if (!listing) return copy(listing.error());
  ASSIGN_OR_RETURN(std::vector<HubFile> files,
                   SelectFiles(listing->files, request.id, request.with_weights));
  request.remote.AddChecksums(repository, listing->commit, &files);
  std::vector<FetchJob> jobs;
  for (const HubFile& file : files) {
    const std::string hash = BlobName(file, listing->commit);
    std::error_code error;
    if (fs::exists(cache.BlobPath(hash), error)) continue;
    jobs.push_back({file, request.remote.FileUrl(repository, listing->commit, file.path),
                    cache.BlobPath(hash), cache.LockPath(hash)});
  }
  if (const Status status = FetchAll(std::move(jobs), request.fetch_options()); !status.ok()) {
    return IsRemoteFault(status) ? copy(status) : Unexpected(status);
  }
  for (const HubFile& file : files) {
    RETURN_IF_ERROR(cache.Link(listing->commit, file.path, BlobName(file, listing->commit)));
  }
  RETURN_IF_ERROR(cache.SaveRef(request.revision, listing->commit));
  return LocalModel(cache.SnapshotDir(listing->commit), request.id);
}

// ModelScope's own layout has one folder for all revisions.
Expected<std::string> FromModelScope(const Request& request) {
  const std::string folder = ModelScopeFolder(request.cache_dir, request.id.repository);
  FileRecord record(folder);
  std::error_code error;
  const bool right_revision =
      record.empty() || (record.revision() == request.revision && record.Unchanged());
  const bool there = fs::is_directory(folder, error) && right_revision;
  if (request.offline) {
    if (there) return LocalModel(folder, request.id);
    if (right_revision) return Unexpected(request.NotCached());
    return Unexpected(FailedPrecondition(
        "{}: holds revision '{}' or parts of it, not '{}', and HF_HUB_OFFLINE is set", folder,
        record.revision(), request.revision));
  }
  const std::string& repository = request.id.repository;
  auto listing = request.remote.List(repository, request.revision, request.retry(there));
  if (!listing) {
    if (!there) return Unexpected(listing.error());
    return UseCopy(listing.error(), folder, request);
  }
  ASSIGN_OR_RETURN(const std::vector<HubFile> files,
                   SelectFiles(listing->files, request.id, request.with_weights));
  std::vector<FetchJob> jobs;
  for (const HubFile& file : files) {
    if (record.Has(file, request.revision)) continue;
    jobs.push_back({file, request.remote.FileUrl(repository, listing->commit, file.path),
                    folder + "/" + file.path,
                    fmt::format("{}/._lock/{}.lock", request.cache_dir,
                                BlobName(file, repository))});
  }
  // Not even for a fault of the network the old files serve now: some may be replaced already.
  RETURN_IF_ERROR(FetchAll(std::move(jobs), request.fetch_options()));
  if (const Status status = record.Save(request.revision, files); !status.ok()) {
    LOG_WARNING("{}; the files are checked again at the next start", status.message());
  }
  return LocalModel(folder, request.id);
}

}  // namespace

Expected<std::string> ResolveModel(const std::string& model, const HubOptions& options,
                                   const Environ& environ, const Progress& progress) {
  std::error_code error;
  if (fs::exists(model, error)) return model;
  const std::optional<HubId> id = ParseHubId(model);
  if (!id) return Unexpected(NotFound("{}: no such file or folder", model));
  const bool modelscope = EnvIsOn(environ, "VLLM_USE_MODELSCOPE");
  Request request{
      modelscope ? Remote::ModelScope(options, environ) : Remote::HuggingFace(options, environ),
      *id, options.revision,
      modelscope ? ModelScopeCacheDir(environ, options.download_dir)
                 : HuggingFaceCacheDir(environ, options.download_dir),
      EnvIsOn(environ, "HF_HUB_OFFLINE") || EnvIsOn(environ, "TRANSFORMERS_OFFLINE"),
      options.with_weights, progress};
  if (request.revision.empty()) request.revision = request.remote.default_revision;
  if (!IsSafePath(request.revision)) {
    return Unexpected(
        InvalidArgument("argument --revision: '{}' is no revision", request.revision));
  }
  return modelscope ? FromModelScope(request) : FromHuggingFace(request);
}

}  // namespace tiercel::hub
