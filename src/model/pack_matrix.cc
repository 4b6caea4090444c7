#include "model/pack_matrix.h"

#include <array>
#include <cstring>

#include "model/block_packing.h"
#include "model/packing.h"

namespace tiercel::model {
namespace {

std::vector<checkpoint::WeightReader> Readers(const checkpoint::Checkpoint& checkpoint, const FusedLinear& source) {
  std::vector<checkpoint::WeightReader> readers;
  for (const Shard& shard : source.shards) {
    readers.emplace_back(checkpoint, shard.name, shard.tensors, source.k, source.slice);
  }
  return readers;
}

Status PackEmbedding(const checkpoint::Checkpoint& checkpoint, const FusedLinear& source, BF16* data, int worker,
                     int workers) {
  const Shard& shard = source.shards[0];
  const int64_t k = source.k;
  checkpoint::WeightReader reader(checkpoint, shard.name, shard.tensors, k, {0, k});
  const Range rows = SplitRange(shard.rows.size(), 1, {worker, workers});
  for (int64_t r = rows.begin; r < rows.end; ++r) RETURN_IF_ERROR(reader.ReadBF16(r, data + r * k));
  return OkStatus();
}

Status PackStrips(const checkpoint::Checkpoint& checkpoint, const checkpoint::ModelConfig& part, const MatrixJob& job,
                  std::byte* data, int worker) {
  const FusedLinear& source = *job.source;
  const PackedMatrix& matrix = job.linear->weight;
  std::vector<checkpoint::WeightReader> readers = Readers(checkpoint, source);
  std::array<checkpoint::BlockRow, kStripColumns> rows;
  const Range range = matrix.ColumnRange(worker);
  for (int64_t first = range.begin; first < range.end; first += kStripColumns) {
    const BlockStrip& strip = matrix.strips[first / kStripColumns];
    StripRows strip_rows = {};
    if (strip.format == BlockFormat::kNone) continue;
    for (int64_t c = 0; c < kStripColumns; ++c) {
      const Place place = PlaceOf(source.order, part, first + c, source.shards[0].rows.size());
      if (place.part < 0 || !job.Has(source.shards[place.part])) continue;
      checkpoint::BlockRow& row = rows[static_cast<size_t>(c)];
      RETURN_IF_ERROR(readers[place.part].ReadBlocks(source.shards[place.part].rows.begin + place.row, &row));
      strip_rows[static_cast<size_t>(c)] = &row;
    }
    PackStrip(strip.format, strip_rows, source.slice, reinterpret_cast<uint8_t*>(data) + strip.offset);
  }
  return OkStatus();
}

}  // namespace

Status PackMatrix(const checkpoint::Checkpoint& checkpoint, const checkpoint::ModelConfig& part, const MatrixJob& job,
                  std::byte* data, int worker, int workers) {
  const FusedLinear& source = *job.source;
  if (job.linear == nullptr) return PackEmbedding(checkpoint, source, reinterpret_cast<BF16*>(data), worker, workers);
  if (HasStrips(job.input.kind)) return PackStrips(checkpoint, part, job, data, worker);
  std::vector<checkpoint::WeightReader> readers = Readers(checkpoint, source);
  Linear& linear = *job.linear;
  return PackColumns(linear.weight, data, worker, [&](int64_t column, void* row) -> Status {
    const Place place = PlaceOf(source.order, part, column, source.shards[0].rows.size());
    if (place.part < 0 || !job.Has(source.shards[place.part])) {
      std::memset(row, 0, static_cast<size_t>(linear.weight.k) * SizeOf(linear.weight.dtype));
      return OkStatus();
    }
    checkpoint::WeightReader& reader = readers[place.part];
    const int64_t from = source.shards[place.part].rows.begin + place.row;
    if (!linear.is_int8()) return reader.ReadBF16(from, static_cast<BF16*>(row));
    ASSIGN_OR_RETURN(const checkpoint::WeightReader::Int8Row read,
                     reader.ReadInt8(from, static_cast<int8_t*>(row)));
    // Modulo 2³², as the kernels sum.
    const int32_t factor = source.shards[place.part].tensors.weight_sum_factor;
    linear.acc_bias[column] = static_cast<int32_t>(
        static_cast<uint32_t>(linear.acc_bias[column]) -
        static_cast<uint32_t>(factor) * static_cast<uint32_t>(read.sum));
    if (read.scale != 0) linear.scale[column] = read.scale;
    return OkStatus();
  });
}

}  // namespace tiercel::model
