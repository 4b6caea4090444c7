// What the benchmarks share: data sets from flags, and files of results.
#pragma once

#include <string>

#include "api/json.h"
#include "base/status.h"
#include "bench/data_sets.h"
#include "options/option_parser.h"
#include "serving/model_loading.h"

namespace tiercel::tools {

using options::ParsedOptions;

// The flags of the group "dataset", and --seed.
Expected<bench::DataSetOptions> DataSetFromFlags(const ParsedOptions& options);

// `template_kwargs`: more variables for the template, a JSON object or empty.
Expected<bench::TextTools> MakeTextTools(const serving::LoadedText& text,
                                         const std::string& template_kwargs);

// Whether a file can be written there, before a benchmark runs for nothing. Makes its folder.
Status PrepareFile(const std::string& path);
// `append`: behind what the file has, on a line of its own.
Status WriteJson(const std::string& path, const api::Json& json, bool append);

}  // namespace tiercel::tools
