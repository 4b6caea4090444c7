#include "hub/remote.h"

#include <cctype>
#include <string_view>

#include "hub/cache.h"

namespace tiercel::hub {
namespace {

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

std::string TrimSlash(std::string text) {
  while (text.ends_with('/')) text.pop_back();
  return text;
}

net::HttpClientOptions ClientOptions(const Environ& environ) {
  net::HttpClientOptions options = net::HttpClientOptions::FromEnviron(environ);
  options.max_body_bytes = kMaxListingBytes;
  return options;
}

// The hash in an ETag header: "abc", W/"abc".
std::string HashOfEtag(std::string_view text) {
  const size_t begin = text.find('"');
  if (begin == text.npos) return std::string(text);
  text.remove_prefix(begin + 1);
  return std::string(text.substr(0, text.find('"')));
}

}  // namespace

Remote Remote::HuggingFace(const HubOptions& options, const Environ& environ) {
  const std::string endpoint = EnvValue(environ, "HF_ENDPOINT");
  return {Kind::kHuggingFace, TrimSlash(endpoint.empty() ? "https://huggingface.co" : endpoint),
          options.token.empty() ? HuggingFaceToken(environ) : options.token, "main",
          ClientOptions(environ)};
}

Remote Remote::ModelScope(const HubOptions& options, const Environ& environ) {
  const std::string scheme = EnvValue(environ, "MODELSCOPE_URL_SCHEME");
  const std::string domain = EnvValue(environ, "MODELSCOPE_DOMAIN");
  return {Kind::kModelScope,
          TrimSlash((scheme.empty() ? "https://" : scheme) +
                    (domain.empty() ? "www.modelscope.cn" : domain)),
          options.token.empty() ? EnvValue(environ, "MODELSCOPE_API_TOKEN") : options.token,
          "master", ClientOptions(environ)};
}

net::HttpHeaders Remote::Headers() const {
  if (token.empty()) return {};
  return {{"Authorization", "Bearer " + token}};
}

std::string Remote::DeniedHint() const {
  return token.empty() ? "give a token (HF_TOKEN or --hf-token)"
                       : "the token given has no right to it";
}

Expected<Listing> Remote::List(const std::string& repository, const std::string& revision,
                               const net::RetryOptions& retry) const {
  const bool hugging_face = kind == Kind::kHuggingFace;
  const std::string encoded = UrlEncode(revision, "");
  const std::string url =
      hugging_face
          ? fmt::format("{}/api/models/{}/revision/{}?blobs=true", endpoint, repository, encoded)
          : fmt::format("{}/api/v1/models/{}/repo/files?Revision={}&Recursive=true", endpoint,
                        repository, encoded);
  net::HttpClient http(client);
  const auto response = SendWithRetries(&http, {"GET", url, Headers(), ""}, retry);
  if (!response) {
    return Unexpected(Unavailable(
        "{}: is neither a file or folder here nor can it be looked up at {}: {}", repository,
        endpoint, response.error().message()));
  }
  switch (response->status) {
    case 200:
      return hugging_face ? ParseHuggingFaceListing(response->body, url)
                          : ParseModelScopeListing(response->body, revision, url);
    case 401:
    case 403:
      return Unexpected(FailedPrecondition(
          "{}: access denied by {} (HTTP {}): the model is private, gated or does not exist; {}",
          repository, endpoint, response->status, DeniedHint()));
    case 404:
      return Unexpected(FailedPrecondition("{}: {} has no such model with revision '{}' (HTTP 404)",
                                 repository, endpoint, revision));
    default:
      return Unexpected(
          Unavailable("{}: {} answered with HTTP {}", repository, endpoint, response->status));
  }
}

void Remote::AddChecksums(const std::string& repository, const std::string& commit,
                          std::vector<HubFile>* files) const {
  if (kind != Kind::kHuggingFace) return;
  net::HttpClient http(client);
  for (HubFile& file : *files) {
    if (!file.sha256.empty() || !file.git_sha1.empty()) continue;
    net::HttpRequestSpec request{"HEAD", FileUrl(repository, commit, file.path), Headers(), ""};
    request.follow_redirects = false;  // the file servers know no checksums
    const auto response = http.Send(request);
    if (!response || response->status >= 400) continue;
    const auto linked = response->header("X-Linked-Etag");
    const std::string hash = HashOfEtag(linked ? *linked : response->header("ETag").value_or(""));
    if (IsHex(hash, 64)) file.sha256 = hash;
    if (IsHex(hash, 40)) file.git_sha1 = hash;
  }
}

std::string Remote::FileUrl(const std::string& repository, const std::string& commit,
                            const std::string& path) const {
  if (kind == Kind::kHuggingFace) {
    return fmt::format("{}/{}/resolve/{}/{}", endpoint, repository, commit, UrlEncode(path, "/"));
  }
  return fmt::format("{}/api/v1/models/{}/repo?Revision={}&FilePath={}", endpoint, repository,
                     UrlEncode(commit, ""), UrlEncode(path, ""));
}

}  // namespace tiercel::hub
