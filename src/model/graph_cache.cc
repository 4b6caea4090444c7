#include "model/graph_cache.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "base/check.h"

namespace tiercel::model {
namespace {

std::vector<int64_t> DefaultSizes(int64_t max_size, int64_t max_num_seqs) {
  std::vector<int64_t> sizes;
  for (const int64_t size : {1, 2, 4}) {
    if (size <= max_size) sizes.push_back(size);
  }
  for (int64_t size = 8; size < 256 && size <= max_size; size += 8) sizes.push_back(size);
  for (int64_t size = 256; size <= max_size; size += 16) sizes.push_back(size);
  for (const int64_t size : {max_size, max_num_seqs}) {
    if (size >= 1 && size <= max_size) sizes.push_back(size);
  }
  return sizes;
}

void SortUnique(std::vector<int64_t>* sizes) {
  std::sort(sizes->begin(), sizes->end());
  sizes->erase(std::unique(sizes->begin(), sizes->end()), sizes->end());
}

Expected<std::vector<int64_t>> AllCaptureSizes(const CaptureOptions& options) {
  if (options.max_size.has_value() && *options.max_size < 1) {
    return Unexpected(InvalidArgument("max_cudagraph_capture_size: found {}, expected at least 1",
                                      *options.max_size)
                          .WithParam("max_cudagraph_capture_size"));
  }
  if (!options.sizes.has_value()) {
    int64_t max_size =
        options.max_size.value_or(std::min<int64_t>(2 * options.max_num_seqs, 512));
    max_size = std::min(max_size, options.max_num_batched_tokens);
    std::vector<int64_t> sizes = DefaultSizes(max_size, options.max_num_seqs);
    SortUnique(&sizes);
    return sizes;
  }
  std::vector<int64_t> sizes = *options.sizes;
  for (const int64_t size : sizes) {
    if (size < 1) {
      return Unexpected(InvalidArgument("cudagraph_capture_sizes: found {}, expected positive "
                                        "batch sizes",
                                        size)
                            .WithParam("cudagraph_capture_sizes"));
    }
  }
  SortUnique(&sizes);
  std::erase_if(sizes, [&](int64_t size) { return size > options.max_num_batched_tokens; });
  if (sizes.empty()) {
    return Unexpected(InvalidArgument("cudagraph_capture_sizes: found no size up to "
                                      "max_num_batched_tokens ({}), expected at least one",
                                      options.max_num_batched_tokens)
                          .WithParam("cudagraph_capture_sizes"));
  }
  if (options.max_size.has_value() && *options.max_size != sizes.back()) {
    return Unexpected(InvalidArgument("customized max_cudagraph_capture_size(={}) should be "
                                      "consistent with the max value of "
                                      "cudagraph_capture_sizes(={})",
                                      *options.max_size, sizes.back())
                          .WithParam("max_cudagraph_capture_size"));
  }
  return sizes;
}

}  // namespace

Expected<GraphMode> ParseGraphMode(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (upper == "NONE" || upper == "PIECEWISE") return GraphMode::kNone;
  if (upper == "FULL_DECODE_ONLY" || upper == "FULL_AND_PIECEWISE" || upper == "FULL") {
    return GraphMode::kFullDecodeOnly;
  }
  return Unexpected(InvalidArgument(
                        "cudagraph_mode: found \"{}\", expected NONE, PIECEWISE, FULL, "
                        "FULL_DECODE_ONLY or FULL_AND_PIECEWISE",
                        text)
                        .WithParam("cudagraph_mode"));
}

Expected<std::vector<int64_t>> ResolveCaptureSizes(const CaptureOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> all, AllCaptureSizes(options));
  std::vector<int64_t> sizes = all;
  std::erase_if(sizes, [&](int64_t size) { return size % options.multiples_of != 0; });
  if (sizes.empty()) {
    // Without the blank, as vLLM-Ascend writes it.
    return Unexpected(InvalidArgument("cudagraph_capture_sizes [{}] does not contain"
                                      "values that are multiples of tp_size {}",
                                      fmt::join(all, ", "), options.multiples_of)
                          .WithParam("cudagraph_capture_sizes"));
  }
  return sizes;
}

Program* GraphCache::Add(int64_t size) {
  const auto [entry, is_new] = programs_.try_emplace(size);
  CHECK(is_new);
  return &entry->second;
}

const Program* GraphCache::Find(int64_t size) const {
  const auto entry = programs_.find(size);
  return entry == programs_.end() ? nullptr : &entry->second;
}

}  // namespace tiercel::model
