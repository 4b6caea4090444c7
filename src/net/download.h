// Download: a URL into a file, going on where an earlier try stopped.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "base/status.h"
#include "net/http_client.h"
#include "net/retry.h"

namespace tiercel::net {

struct DownloadSpec {
  std::string url;
  std::string path;   // what it holds already is the beginning of the file
  HttpHeaders headers;
  int64_t size = -1;  // bytes of the whole file; −1: unknown. More than that is not taken
  std::string denied_hint;  // what helps against HTTP 401 and 403, for the message
  RetryOptions retry;
  const std::atomic<bool>* stop = nullptr;  // once set, it ends within a second (kCancelled)
};

// `done` bytes of the whole file are there.
using Progress = std::function<void(int64_t done)>;

// Appends to the file what is missing (Range: bytes=N-), again after connections that broke and
// answers that pass. A server that sends the whole file to a range starts it anew, so does one
// whose file does not fit to what is there. On OK the file is whole and on the disk, as far as
// `size` or the server's lengths can tell; the caller checks its content. After an error the file
// keeps what came. kUnavailable: the network or the server, kNotFound: its answer was 404;
// kResourceExhausted: the disk is full.
Status Download(HttpClient* client, const DownloadSpec& spec, const Progress& progress = nullptr);

}  // namespace tiercel::net
