// Several files of a hub at once, each checked before it gets its name.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "hub/hub.h"
#include "hub/listing.h"
#include "net/http_client.h"

namespace tiercel::hub {

// A file to have at `destination`; it is downloaded as destination + ".incomplete".
struct FetchJob {
  HubFile file;
  std::string url;
  std::string destination;
  std::string lock;  // a file that one process at a time holds while it downloads this one
};

struct FetchOptions {
  std::string what;  // "org/name", for the log
  std::string from;  // the hub's address, for the log
  net::HttpHeaders headers;
  net::HttpClientOptions client;
  std::string denied_hint;  // what helps against HTTP 401 and 403
  Progress progress;
};

// Downloads what is missing, several files at a time. A file whose size or checksum is wrong is
// deleted and fetched once more, then it is an error. The first error ends the other downloads;
// what came of them stays and goes on the next time. kUnavailable and kNotFound: the network or
// the hub; kResourceExhausted: the disk is full.
Status FetchAll(std::vector<FetchJob> jobs, const FetchOptions& options);

}  // namespace tiercel::hub
