// BenchServeConfig: what `tiercel bench serve` was asked to do, typed and checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/environ.h"
#include "base/status.h"
#include "bench/client_request.h"
#include "bench/data_sets.h"
#include "bench/metrics.h"
#include "bench/report.h"
#include "net/http_client.h"
#include "options/option_parser.h"

namespace tiercel::tools {

using options::ParsedOptions;

struct BenchServeConfig {
  std::string base_url;
  std::string model;      // empty: the first that the server names
  std::string tokenizer;  // empty: the model's
  std::string template_kwargs;
  bench::DataSetOptions data_set;
  bench::Target target;  // its model may be empty, as above
  bench::ServeRun run;   // without what is known later: date, model_id, tokenizer_id
  bench::MetricsOptions metrics;
  net::HttpClientOptions http;
  std::string request_id_prefix;
  int64_t num_warmups = 0;
  double ready_timeout_s = 0;
  bool progress_bar = true;
  bool save = false, append = false, detailed = false;
  std::string result_dir, result_filename;
  std::string plot;  // an SVG file; empty: none
  std::vector<std::string> warnings;
};

// The user's fault is kInvalidArgument and names the flag.
Expected<BenchServeConfig> MakeBenchServeConfig(const ParsedOptions& options,
                                                const Environ& environ);

}  // namespace tiercel::tools
