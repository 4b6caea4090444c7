// WeightLoader's part that keeps packed weights from one start to the next (packed_file.h).
#include <algorithm>
#include <cstring>

#include <fmt/ranges.h>

#include "base/human_bytes.h"
#include "base/log.h"
#include "model/weight_loader.h"

namespace tiercel::model {

// What packing writes beside the matrices.
std::vector<std::span<std::byte>> WeightLoader::Aside() const {
  std::vector<std::span<std::byte>> parts;
  for (const MatrixJob& job : jobs_) {
    if (job.linear == nullptr || !job.linear->is_int8()) continue;
    parts.push_back(std::as_writable_bytes(std::span(job.linear->acc_bias)));
    parts.push_back(std::as_writable_bytes(std::span(job.linear->scale)));
  }
  return parts;
}

std::string WeightLoader::PackedPath() const {
  return fmt::format("{}-{}-{}.packed", options_.packed.path, places_.stage, rank_.index);
}

// Every matrix's source and place, and the options: files of another form, other workers or another rank have another key.
PackedFile WeightLoader::FileOfPacked() const {
  std::string key = fmt::format("{}\nquantize {} {} blocks {} mix {} head {} rank {} of {} stage {}\n", options_.packed.model,
                                static_cast<int>(options_.quantize), options_.quantize_lm_head, options_.keep_blocks,
                                options_.mix_static, static_cast<int>(options_.head), rank_.index, rank_.count, places_.stage);
  for (const MatrixJob& job : jobs_) {
    key += fmt::format("{} {} order {} k {} {} {} kind {} {} {}", job.offset, job.bytes, static_cast<int>(job.source->order),
                       job.source->k, job.source->slice.begin, job.source->slice.end, static_cast<int>(job.input.kind),
                       job.input.scale, job.input.offset);
    for (const Shard& shard : job.source->shards) {
      key += fmt::format(" {} {} {} {}", shard.name, shard.rows.begin, shard.rows.end, job.Has(shard));
    }
    if (job.linear != nullptr) {
      const PackedMatrix& m = job.linear->weight;
      key += fmt::format(" n {} {} granule {} type {}", m.n, m.k_padded, m.granule, static_cast<int>(m.dtype));
      for (const BlockStrip& strip : job.linear->strips) key += fmt::format(" {}", static_cast<int>(strip.format));
    }
    key += '\n';
  }
  key += fmt::format("workers {} {}\n", workers_, fmt::join(weights_.bounds, " "));
  return {PackedPath(), std::move(key)};
}

std::optional<MappedWeights> WeightLoader::FindPacked() const {
  size_t aside = 0;
  for (const auto& part : Aside()) aside += part.size();
  return MapPackedFile(FileOfPacked(), static_cast<size_t>(total_), aside);
}

void WeightLoader::Take(MappedWeights mapped) {
  const std::byte* from = mapped.aside.data();
  for (const auto& part : Aside()) {
    std::memcpy(part.data(), from, part.size());
    from += part.size();
  }
  weights_.buffer = std::move(mapped.buffer);
  weights_.bytes_in_memory = weights_.bytes;
  PointToBuffer();
}

Status WeightLoader::WritePacked(FunctionRef<void(int64_t)> progress) const {
  std::vector<std::byte> aside;
  for (const auto& part : Aside()) aside.insert(aside.end(), part.begin(), part.end());
  const PackedFile file = FileOfPacked();
  RETURN_IF_ERROR(WritePackedFile(file, {weights_.buffer.as<const std::byte>(), static_cast<size_t>(total_)}, aside,
                                  options_.cancelled, progress));
  LOG_INFO("{}: written, {}: the next start maps it", file.path, HumanBytes(total_));
  return OkStatus();
}

void WeightLoader::ReadAhead(int worker, FunctionRef<void(int64_t)> progress) const {
  constexpr int64_t kPage = 4096, kPiece = int64_t{64} << 20;
  const Range part = SplitRange(total_, kPage, {worker, workers_});
  for (int64_t at = part.begin; at < part.end; at += kPiece) {
    if (options_.cancelled != nullptr && *options_.cancelled) return;
    const int64_t end = std::min(part.end, at + kPiece);
    const std::byte* const data = weights_.buffer.as<const std::byte>();
    platform::Buffer::WillNeed(data + at, static_cast<size_t>(std::min(part.end, end + kPiece) - at));
    for (int64_t i = at; i < end; i += kPage) (void)*static_cast<const volatile std::byte*>(data + i);
    progress(end - part.begin);
  }
}

}  // namespace tiercel::model
