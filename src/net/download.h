// Download: a URL into a file, going on where an earlier try stopped.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/status.h"
#include "net/http_client.h"

namespace tiercel::net {

// Downloads into the file `path`, appending to what is there (Range: bytes=N-). A server that
// answers 200 to the range starts the file anew. `progress`(bytes so far, total or −1).
// Anything but 200, 206 and 416-when-complete is an error that names the URL and the status.
using Progress = std::function<bool(int64_t done, int64_t total)>;
Status Download(HttpClient* client, const std::string& url, const std::string& path,
                HttpHeaders headers = {}, const Progress& progress = nullptr);

}  // namespace tiercel::net
