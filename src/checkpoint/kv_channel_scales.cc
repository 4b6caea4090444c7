#include "checkpoint/kv_channel_scales.h"

#include <cmath>

#include "checkpoint/tensor_reader.h"

namespace tiercel::checkpoint {
namespace {

Status ReadChannels(const Checkpoint& checkpoint, const std::string& name, bool is_scale, int64_t n, Range channels,
                    std::vector<float>* out) {
  const auto info = checkpoint.Find(name);
  const bool one = info.has_value() && info->shape == std::vector<int64_t>{1};
  const int64_t count = one ? 1 : n;
  RETURN_IF_ERROR(CheckTensor(checkpoint, name, {count}));
  std::vector<float> all(static_cast<size_t>(count));
  RETURN_IF_ERROR(checkpoint.ReadRows(name, 0, count, all.data()));
  for (const float x : all) {
    if (is_scale ? IsScale(x) : std::isfinite(x)) continue;
    return InvalidArgument("{}: found {}, expected a {}", name, x,
                           is_scale ? "scale from 1e-18 to 1e+18" : "finite offset");
  }
  if (one) {
    out->assign(static_cast<size_t>(channels.size()), all[0]);
  } else {
    out->assign(all.begin() + channels.begin, all.begin() + channels.end);
  }
  return OkStatus();
}

}  // namespace

Expected<KvChannelScales> ReadKvChannelScales(const Checkpoint& checkpoint, const std::string& attention, int64_t n,
                                              Range channels) {
  const std::string k = attention + "k_proj.kv_cache_", v = attention + "v_proj.kv_cache_";
  KvChannelScales scales;
  RETURN_IF_ERROR(ReadChannels(checkpoint, k + "scale", true, n, channels, &scales.k_scale));
  RETURN_IF_ERROR(ReadChannels(checkpoint, k + "offset", false, n, channels, &scales.k_offset));
  RETURN_IF_ERROR(ReadChannels(checkpoint, v + "scale", true, n, channels, &scales.v_scale));
  RETURN_IF_ERROR(ReadChannels(checkpoint, v + "offset", false, n, channels, &scales.v_offset));
  return scales;
}

}  // namespace tiercel::checkpoint
