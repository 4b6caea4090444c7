// Server: the OpenAI-compatible HTTP server over one Engine.
//
//   auto server = Server::Bind(options);     // before the model is loaded: a taken port is told at once
//   …load…
//   (*server)->SetModel(std::move(model));   // from now on connections are accepted, /health is 200
//   …another thread, on SIGTERM: (*server)->Shutdown(grace)…
//   (*server)->Run();                        // blocks until Shutdown has ended
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/options.h"
#include "base/status.h"
#include "engine/engine.h"
#include "server/loaded_model.h"
#include "server/tracing.h"

namespace tiercel::server {

// Names and defaults follow vLLM's flags where there is one.
struct ServerOptions {
  std::string host;  // empty: all interfaces, IPv6 and IPv4
  int port = 8000;   // 0: any free port, see Server::port()
  bool early_health = false;  // accept connections before there is a model, see Server
  std::string uds;   // a Unix socket's path; wins over host and port
  std::vector<std::string> served_model_names;  // [0] is echoed; set before Bind (metrics label)
  std::vector<std::string> api_keys;            // empty: no authorization
  std::string root_path;                        // prefix of a proxy, tolerated before every route

  // CORS: off while allowed_origins is empty.
  std::vector<std::string> allowed_origins;
  std::vector<std::string> allowed_methods = {"*"};
  std::vector<std::string> allowed_headers = {"*"};
  bool allow_credentials = false;

  // TLS: on when both files are given. ssl_cert_reqs: 0 none, 1 optional, 2 required.
  std::string ssl_certfile, ssl_keyfile, ssl_ca_certs, ssl_ciphers;
  int ssl_cert_reqs = 0;
  bool ssl_refresh = false;  // --enable-ssl-refresh: changed files are read again

  // Limits
  int64_t max_request_body_bytes = int64_t{64} << 20;
  int64_t max_header_bytes = 64 << 10;  // with chunk extensions and trailers
  int max_header_count = 256;       // --h11-max-header-count
  int64_t max_request_bytes_in_flight = 0;  // heads and bodies; 0: two bodies of the greatest size
  int64_t max_unsent_bytes = int64_t{4} << 20;  // of a stream whose client does not read
  int64_t max_connections = 0;      // 0: what RLIMIT_NOFILE leaves
  double header_timeout_s = 30;     // from a request's first byte to the end of its head
  double body_timeout_s = 120;      // from there to the end of its body
  double keep_alive_timeout_s = 75; // between two requests
  double write_stall_timeout_s = 600;  // a client that takes nothing for so long is dropped
  double sse_keep_alive_interval_s = 0;  // 0: no comment lines in quiet streams
  double ping_interval_s = 10;  // of /v1/messages' quiet streams, where the other is 0

  int io_threads = 1;
  int prepare_threads = 1;  // templates and tokenization

  // Logging
  bool access_log = true;  // --disable-uvicorn-access-log
  std::vector<std::string> access_log_excluded_paths;  // --disable-access-log-for-endpoints
  bool log_requests = false;                           // --enable-log-requests
  std::optional<int> max_log_len;
  int64_t max_model_len = 0;  // as asked for, 0: the model's; for metrics while it is being loaded
  int num_engines = 1, first_engine = 0;  // their numbers are labels of the metrics
  bool log_stats = true;  // --disable-log-stats turns the vllm: metrics off
  SpanSink* spans = nullptr;  // null: no traces; else it outlives the server

  bool enable_request_id_headers = false;
  bool enable_server_load_tracking = false;
  bool keep_responses = false;  // VLLM_ENABLE_RESPONSES_API_STORE=1
  bool ui = true;         // the built-in page at "/"; false: 404 there
  bool document = true;   // /openapi.json, /docs and /redoc; false: 404 there
  bool dev_mode = false;  // VLLM_SERVER_DEV_MODE=1: /server_info, /reset_prefix_cache, /sleep, …
  bool sleep_mode = false;      // --enable-sleep-mode
  bool tokenizer_info = false;  // --enable-tokenizer-info-endpoint
  std::string version;    // of /version
  std::string fingerprint;       // system_fingerprint of responses; empty: null
  std::string server_info_json;  // body of /server_info; empty: {}
  // Labels of vllm:cache_config_info beyond block_size and num_gpu_blocks.
  std::vector<std::pair<std::string, std::string>> cache_config_labels;

  api::ApiOptions api;
};

// Lets the process open as many files, connections among them, as its hard limit allows. For the
// program's start: the limit belongs to the process.
void RaiseFileLimit();

class Server {
 public:
  // Takes the address, checks the TLS files, starts the I/O threads. A busy port is
  // kFailedPrecondition and names it. Connections are refused until SetModel, so that scripts may
  // wait for the port; with early_health they are accepted, and all but /metrics and the like is
  // 503.
  static Expected<std::unique_ptr<Server>> Bind(ServerOptions options);
  virtual ~Server() = default;

  // Once. Any thread. Not ok if connections cannot be accepted.
  virtual Status SetModel(ServingModel model) = 0;
  // Returns when Shutdown has ended (Status ok), or with kInternal when the engine has failed:
  // then the process should exit with a non-zero code.
  virtual Status Run() = 0;
  // Stops accepting, lets running requests end for `grace_seconds`, aborts the rest. Any thread,
  // not a signal handler itself.
  virtual void Shutdown(double grace_seconds) = 0;

  virtual int port() const = 0;
  // "http://0.0.0.0:8000"
  virtual std::string url() const = 0;
  // "Route: /health, Methods: GET", one line a route, for the start-up log.
  virtual std::vector<std::string> RouteLines() const = 0;
};

}  // namespace tiercel::server
