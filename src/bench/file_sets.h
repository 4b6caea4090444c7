// The data sets that are files.
#pragma once

#include "base/status.h"
#include "bench/data_sets.h"
#include "bench/random_text.h"

namespace tiercel::bench {

// As many requests as the file has, at most `options.num_prompts`.
Expected<std::vector<BenchRequest>> ShareGptRequests(const DataSetOptions& options,
                                                     const TextTools& tools, Random* random);
Expected<std::vector<BenchRequest>> CustomRequests(const DataSetOptions& options,
                                                   const TextTools& tools, Random* random);
// As many as asked for: lines are taken again and again.
Expected<std::vector<BenchRequest>> SonnetRequests(const DataSetOptions& options,
                                                   const TextTools& tools, Random* random);
Expected<std::vector<BenchRequest>> BurstGptRequests(const DataSetOptions& options,
                                                     const TextTools& tools, Random* random);

}  // namespace tiercel::bench
