// A hub's routes: Hugging Face's and ModelScope's.
#pragma once

#include <string>
#include <vector>

#include "base/environ.h"
#include "base/status.h"
#include "hub/hub.h"
#include "hub/listing.h"
#include "net/http_client.h"
#include "net/retry.h"

namespace tiercel::hub {

// Where a hub is and who asks.
struct Remote {
  enum class Kind { kHuggingFace, kModelScope };

  static Remote HuggingFace(const HubOptions& options, const Environ& environ);
  static Remote ModelScope(const HubOptions& options, const Environ& environ);

  // What is in a revision of `repository`. The error is one line for the user, whatever went wrong.
  Expected<Listing> List(const std::string& repository, const std::string& revision,
                         const net::RetryOptions& retry) const;
  // Asks for the checksums that the listing of a mirror may lack, file by file.
  void AddChecksums(const std::string& repository, const std::string& commit,
                    std::vector<HubFile>* files) const;
  std::string FileUrl(const std::string& repository, const std::string& commit,
                      const std::string& path) const;
  net::HttpHeaders Headers() const;
  // What helps against HTTP 401 and 403.
  std::string DeniedHint() const;

  Kind kind;
  std::string endpoint;  // without a slash at the end
  std::string token;     // may be empty
  std::string default_revision;
  net::HttpClientOptions client;
};

}  // namespace tiercel::hub
