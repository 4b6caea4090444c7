// Where the workers meet: the barriers that a step's Program derives from what its operators declare.
// Expected lists are written by hand, from who needs what of whom.
#include "model/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/program_test_util.h"

namespace tiercel::model {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kOwnedGroups = 6;  // whole KV groups for each of 1, 2 or 3 workers
int64_t SharedGroups(int workers) { return workers == 2 ? 3 : 2; }

// A step of one sequence.
StepShape Step(int64_t rows, int64_t logit_rows) {
  return {.rows = rows, .seqs = 1, .logit_rows = logit_rows, .head_rows = logit_rows};
}

std::string Listing(const SmallModel::Options& options, const StepShape& shape) {
  Program program;
  SmallModel(options).Record(shape, &program);
  return program.ToString();
}

int64_t Barriers(SmallModel::Options options, const StepShape& shape) {
  options.max_rows = std::max(options.max_rows, shape.rows);
  Program program;
  SmallModel(options).Record(shape, &program);
  return program.num_barriers();
}

// Of a step all of whose rows become logits.
int64_t BarriersPerLayer(SmallModel::Options options, int64_t rows) {
  options.num_layers = 3;
  const int64_t three = Barriers(options, Step(rows, rows));
  options.num_layers = 2;
  return three - Barriers(options, Step(rows, rows));
}

TEST(ForwardProgramTest, DecodeMeetsFourTimesALayer) {
  EXPECT_EQ(BarriersPerLayer({.num_kv_heads = 2, .workers = 2}, 1), 4);
  EXPECT_EQ(BarriersPerLayer({.num_kv_heads = 2, .workers = 1}, kFewRows), 4);
}

TEST(ForwardProgramTest, SharedKvGroupsCostTwoMore) {
  EXPECT_EQ(BarriersPerLayer({.num_kv_heads = 3, .workers = 2}, 1), 6);
}

// Whole groups are too coarse for workers that are not equal.
TEST(ForwardProgramTest, UnevenWorkersShareGroups) {
  EXPECT_EQ(BarriersPerLayer({.num_kv_heads = 2, .workers = 2, .shares = {2, 1}}, 1), 6);
  EXPECT_EQ(BarriersPerLayer({.num_kv_heads = 2, .workers = 2, .shares = {2, 1}}, kFewRows + 1), 8);
}

TEST(ForwardProgramTest, ManyRowsShareOutTheNorms) {
  EXPECT_EQ(BarriersPerLayer({.num_kv_heads = 2, .workers = 2}, kFewRows + 1), 6);
}

// The embedding's barrier alone: the last layer ends with its keys and values.
TEST(ForwardProgramTest, WithoutLogitsTheLastLayerIsNotFinished) {
  EXPECT_EQ(Listing({.num_layers = 1}, Step(1, 0)),
            "embed rope_table | rms_norm matmul qk_norm_rope");
}

TEST(ForwardProgramTest, FewRows) {
  EXPECT_EQ(Listing({.num_layers = 1}, Step(kFewRows, kFewRows)),
            "embed rope_table | rms_norm matmul qk_norm_rope attention | matmul | rms_norm matmul | "
            "matmul | rms_norm matmul |");
}

// A norm divides the rows as the embedding did.
TEST(ForwardProgramTest, ManyRows) {
  EXPECT_EQ(Listing({.num_layers = 1}, Step(kFewRows + 1, kFewRows + 1)),
            "embed rope_table rms_norm | matmul qk_norm_rope attention | matmul | rms_norm | matmul | "
            "matmul | rms_norm | matmul |");
}

TEST(ForwardProgramTest, SharedKvGroupsAreExchangedTwice) {
  EXPECT_EQ(Listing({.num_layers = 1, .num_kv_heads = 3}, Step(1, 1)),
            "embed rope_table | rms_norm matmul | qk_norm_rope | attention | matmul | rms_norm matmul | "
            "matmul | rms_norm matmul |");
}

// Few rows are gathered by who owns them and normed by everyone, many stay where they are.
TEST(ForwardProgramTest, LogitRowsAreGathered) {
  EXPECT_EQ(Listing({.num_layers = 1}, Step(kFewRows, 2)),
            "embed rope_table | rms_norm matmul qk_norm_rope attention | matmul | gather_rows | "
            "rms_norm matmul | matmul | rms_norm matmul |");
  EXPECT_EQ(Listing({.num_layers = 1}, Step(30, 20)),
            "embed rope_table rms_norm | matmul qk_norm_rope attention | matmul | gather_rows rms_norm | "
            "matmul | matmul | rms_norm | matmul |");
}

TEST(ForwardProgramTest, ModelsThatPoolEndWithTheNorm) {
  EXPECT_EQ(Listing({.num_layers = 1, .head = checkpoint::Head::kHidden}, Step(1, 1)),
            "embed rope_table | rms_norm matmul qk_norm_rope attention | matmul | rms_norm matmul | "
            "matmul | rms_norm |");
}

TEST(ForwardProgramTest, FurtherLogitRows) {
  const SmallModel model({.num_layers = 1});
  const StepShape shape{.rows = 40, .seqs = 1, .logit_rows = 40, .head_rows = 20};
  Program program;
  model.RecordRest(shape, 20, &program);
  EXPECT_EQ(program.ToString(), "rms_norm | matmul |");
}

// What attention gives is quantized by rows; few rows are quantized by everyone.
TEST(ForwardProgramTest, PerToken) {
  const SmallModel::Options options{.format = Format::kPerToken, .num_layers = 1};
  EXPECT_EQ(Listing(options, Step(1, 1)),
            "embed rope_table | rms_norm quant_matmul qk_norm_rope attention | quantize quant_matmul | "
            "rms_norm quant_matmul | quantize quant_matmul | rms_norm quant_matmul |");
  EXPECT_EQ(Listing(options, Step(9, 9)),
            "embed rope_table rms_norm | quant_matmul qk_norm_rope attention | quantize | quant_matmul | "
            "rms_norm | quant_matmul | quantize | quant_matmul | rms_norm | quant_matmul |");
}

// A norm that does not quantize is no reason to meet: its rows are divided alike.
TEST(ForwardProgramTest, QuantizedApartFromTheNorm) {
  const SmallModel::Options options{.format = Format::kStatic, .num_layers = 1};
  StepShape shape = Step(9, 9);
  EXPECT_EQ(Listing(options, shape),
            "embed rope_table rms_norm | quant_matmul qk_norm_rope attention | quant_matmul | rms_norm | "
            "quant_matmul | quant_matmul | rms_norm | quant_matmul |");
  shape.fuse_norm_quant = false;
  EXPECT_EQ(Listing(options, shape),
            "embed rope_table rms_norm quantize | quant_matmul qk_norm_rope attention | quantize | "
            "quant_matmul | rms_norm quantize | quant_matmul | quantize | quant_matmul | "
            "rms_norm quantize | quant_matmul |");
}

// The second of two matrices that quantize differently waits until the first is done with its inputs.
TEST(ForwardProgramTest, MatricesOfOneLinear) {
  const SmallModel::Options options{.format = Format::kMixed, .num_layers = 1};
  EXPECT_EQ(Listing(options, Step(1, 1)),
            "embed rope_table | rms_norm quantize quant_matmul matmul qk_norm_rope attention | "
            "quantize quant_matmul | rms_norm quantize quant_matmul quantize quant_matmul | swiglu | "
            "quantize quant_matmul | rms_norm quant_matmul |");
  EXPECT_EQ(Listing(options, Step(9, 9)),
            "embed rope_table rms_norm quantize | quant_matmul matmul qk_norm_rope attention | quantize | "
            "quant_matmul | rms_norm quantize | quant_matmul | quantize | quant_matmul | "
            "swiglu quantize | quant_matmul | rms_norm | quant_matmul |");
}

// A step of more than kChunkRows goes in chunks through the norms and the MLP. The next chunk's norm writes the
// buffer that the matmul before the last one has read, unless the last one reads quantized rows from it.
TEST(ForwardProgramTest, ChunksOfALongStep) {
  constexpr int64_t kRows = kChunkRows + 30;
  SmallModel::Options options{.num_layers = 1, .max_rows = kRows};
  EXPECT_EQ(Listing(options, Step(kRows, kRows)),
            "embed rope_table | rms_norm | matmul | rms_norm | matmul qk_norm_rope attention | matmul | "
            "rms_norm | matmul | matmul rms_norm | matmul | matmul | rms_norm | matmul |");
  options.format = Format::kPerToken;
  EXPECT_EQ(Listing(options, Step(kRows, kRows)),
            "embed rope_table | rms_norm | quant_matmul | rms_norm | quant_matmul qk_norm_rope attention | "
            "quantize | quant_matmul | "
            "rms_norm | quant_matmul | quantize | quant_matmul | rms_norm | quant_matmul | quantize | "
            "quant_matmul | rms_norm | quant_matmul |");
}

// However many workers there are, and whatever the model: the two more are all that sharing groups costs.
TEST(ForwardProgramTest, CountsDoNotDependOnTheTeam) {
  for (const Format format :
       {Format::kBF16, Format::kPerToken, Format::kStatic, Format::kMixed}) {
    for (const int64_t rows : {int64_t{1}, kFewRows, kFewRows + 1, kChunkRows + 30}) {
      SCOPED_TRACE(testing::Message() << "format " << int(format) << ", " << rows << " rows");
      const auto barriers = [&](int64_t num_kv_heads, int workers) {
        return Barriers({.format = format, .num_kv_heads = num_kv_heads, .workers = workers},
                        Step(rows, rows));
      };
      const int64_t owned = barriers(kOwnedGroups, 1);
      for (const int workers : {2, 3}) {
        EXPECT_EQ(barriers(kOwnedGroups, workers), owned);
        EXPECT_EQ(barriers(SharedGroups(workers), workers), owned + 2 * 2);
      }
    }
  }
}

// Two ranks of one worker; every barrier of all ranks is "||".
const SmallModel::Options kTwoRanks{.num_layers = 1, .num_kv_heads = 6, .workers = 1, .ranks = 2,
                                        .max_rows = kChunkRows};

StepShape FlashComm(int64_t rows) {
  StepShape shape = Step(rows, rows);
  shape.scatter = shape.fuse_sum = true;
  return shape;
}

TEST(RanksProgramTest, FewRowsMeetOnceForASum) {
  EXPECT_EQ(Listing(kTwoRanks, Step(1, 1)),
            "embed rope_table | rms_norm matmul qk_norm_rope attention | matmul || add_parts | "
            "rms_norm matmul | matmul || add_parts | rms_norm matmul ||");
}

TEST(RanksProgramTest, ManyRowsMeetBeforeTheSumAndAfterIt) {
  EXPECT_EQ(Listing(kTwoRanks, Step(kChunkRows, kChunkRows)),
            "embed rope_table || rms_norm | matmul qk_norm_rope attention | matmul || add_parts || "
            "rms_norm | matmul | matmul || add_parts || rms_norm | matmul ||");
}

// A rank's norm reads what it has added itself; the sum is the second matmul's.
TEST(RanksProgramTest, FlashCommMeetsAfterTheNorm) {
  EXPECT_EQ(Listing(kTwoRanks, FlashComm(kChunkRows)),
            "embed rope_table rms_norm || matmul qk_norm_rope attention | matmul || matmul | "
            "rms_norm || matmul | matmul || matmul | rms_norm || matmul ||");
}

// Three norms of each row, two sums; H = 64.
TEST(RanksProgramTest, CountsWhatARankNormsAndReadsOfOthers) {
  constexpr int64_t kHalf = kChunkRows / 2, kHidden = 64;
  constexpr int64_t kParts = 2 * kHalf * kHidden * 4;
  const auto counts = [](Format format, const StepShape& shape) {
    SmallModel::Options options = kTwoRanks;
    options.format = format;
    Program program;
    SmallModel(options).Record(shape, &program, 1);
    return program.counts();
  };
  const RankCounts every = counts(Format::kBF16, Step(kChunkRows, kChunkRows));
  EXPECT_EQ(every.norm_rows, 3 * kChunkRows);
  EXPECT_EQ(every.bytes_of_others, 3 * kHalf * kHidden * 2 + kParts);
  const RankCounts own = counts(Format::kBF16, FlashComm(kChunkRows));
  EXPECT_EQ(own.norm_rows, 3 * kHalf);
  EXPECT_EQ(own.bytes_of_others, 3 * kHalf * kHidden * 2 + kParts);
  const RankCounts bytes = counts(Format::kPerToken, FlashComm(kChunkRows));  // and a scale a row
  EXPECT_EQ(bytes.bytes_of_others, 3 * kHalf * (kHidden + 4) + kParts);
}

// The weights that the workers ask for at each barrier, by name.
std::vector<std::string> Prefetched(const SmallModel& model, const StepShape& shape) {
  Program program;
  model.Record(shape, &program);
  const LayerWeights& layer = model.weights().layers[0];
  const int workers = layer.qkv.weight.workers;
  std::vector<std::string> names;
  for (int64_t i = 0; i < program.size(); ++i) {
    const Program::Barrier* const barrier = program.barrier(i);
    if (barrier == nullptr) continue;
    const auto is = [&](const Linear& linear, int64_t bytes) {
      return barrier->next == &linear.weight && barrier->worker_bytes == bytes / workers;
    };
    names.push_back(barrier->worker_bytes == 0                              ? "-"
                    : is(layer.qkv, shape.prefetch.qkv)                     ? "qkv"
                    : is(layer.o, shape.prefetch.o)                         ? "o"
                    : is(layer.gate_up, shape.prefetch.gate_up)             ? "gate_up"
                    : is(layer.down, shape.prefetch.down)                   ? "down"
                    : is(model.weights().lm_head, shape.prefetch.lm_head) ? "lm_head"
                                                                            : "?");
  }
  return names;
}

// What comes next, but nothing across an attention: it reads more than a cache holds.
TEST(ForwardProgramTest, WaitingWorkersAskForTheNextWeights) {
  StepShape shape = Step(1, 1);
  shape.prefetch = {.qkv = 600, .o = 1200, .gate_up = 1800, .down = 2400, .lm_head = 3000};
  const SmallModel owned({.num_layers = 1});
  EXPECT_THAT(Prefetched(owned, shape), ElementsAre("qkv", "o", "gate_up", "down", "lm_head", "-"));
  const SmallModel shared({.num_layers = 1, .num_kv_heads = 3});
  EXPECT_THAT(Prefetched(shared, shape),
              ElementsAre("qkv", "-", "-", "o", "gate_up", "down", "lm_head", "-"));
  shape.rows = shape.logit_rows = shape.head_rows = 9;
  EXPECT_THAT(Prefetched(owned, shape), ElementsAre("qkv", "o", "gate_up", "gate_up", "down",
                                                    "lm_head", "lm_head", "-"));
  shape.logit_rows = 1;  // gathered
  EXPECT_THAT(Prefetched(owned, shape),
              ElementsAre("qkv", "o", "gate_up", "gate_up", "down", "lm_head", "-"));
  shape.prefetch.down = 0;
  EXPECT_THAT(Prefetched(owned, shape),
              ElementsAre("qkv", "o", "gate_up", "gate_up", "-", "lm_head", "-"));
  shape.rows = kPrefetchRows;
  shape.logit_rows = 0;
  EXPECT_THAT(Prefetched(SmallModel({.num_layers = 1, .max_rows = kPrefetchRows}), shape),
              ElementsAre("-"));
}

// Of six ranks, what a layer of process 0 sends: for each of its two sums, of one row of 64 values, and each other process
// one message, with the sum of its ranks' parts; but each part where their number is no power of two.
TEST(RankProgramTest, ASumIsOneMessageToEachProcess) {
  const auto sent = [](int ranks, int processes, int64_t rows) {
    Program program;
    SmallModel({.num_layers = 1, .num_kv_heads = 6, .workers = 1, .ranks = ranks, .process = {0, processes},
                .max_rows = rows}).Record(Step(rows, rows), &program);
    return std::pair(program.counts().messages, program.counts().bytes_sent);
  };
  constexpr int64_t kRow = 64 * 4;
  EXPECT_EQ(sent(6, 1, 1), std::pair(int64_t{0}, int64_t{0}));
  EXPECT_EQ(sent(2, 3, 1), std::pair(int64_t{2 * 2}, 2 * 2 * kRow));
  EXPECT_EQ(sent(1, 6, 1), std::pair(int64_t{2 * 5}, 2 * 5 * kRow));
  EXPECT_EQ(sent(3, 2, 1), std::pair(int64_t{2 * 3}, 2 * 3 * kRow));
  // Many rows: to each the parts of its rows, and to each what has become of this one's own; and of the embedding.
  EXPECT_EQ(sent(2, 3, 300).first, 2 * (2 + 2) + 2);
  EXPECT_EQ(sent(3, 2, 300).first, 2 * (3 + 1) + 1);
}

}  // namespace
}  // namespace tiercel::model
