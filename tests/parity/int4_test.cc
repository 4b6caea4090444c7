// Models of GPTQ's four bits in small groups, with zero points and with reordered inputs (act-order). Truth is the same
// weights dequantized to BF16 (whose own truth is the formula: model/int4_checkpoint_test), or the same model in its own
// order, to the bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/int4_checkpoint.h"
#include "parity/cosine.h"
#include "parity/dummy_based_model.h"
#include "parity/model_runner.h"

namespace tiercel::parity {
namespace {

using Logits = std::vector<std::vector<float>>;
using Order = std::vector<int32_t>;

constexpr int64_t kHidden = 256, kInner = 512, kHeads = 512;

Order RandomOrder(int64_t n, uint32_t seed) {
  Order order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  return order;
}

// Which of its rows and inputs a linear has where, by the linear's last name; others have them in their own order.
struct Orders {
  std::map<std::string, Order> outputs, inputs;
};

// The files of a model whose linears are random numbers as GPTQ stores them; the rest is a dummy's. The numbers belong to
// rows and inputs, wherever these are stored.
class GptqFiles final : public DummyBasedModel {
 public:
  GptqFiles(int64_t group, const Orders& orders) : DummyBasedModel(kInner, false), group_(group) {
    for (const std::string& name : DummyBasedModel::Names()) {
      if (!name.ends_with("_proj.weight")) continue;
      const std::string stem = name.substr(0, name.size() - std::string(".weight").size());
      const std::string last = stem.substr(stem.rfind('.') + 1);
      const std::vector<int64_t> shape = DummyBasedModel::Find(name)->shape;
      const auto order_of = [&](const std::map<std::string, Order>& by_name, int64_t n) {
        Order plain(static_cast<size_t>(n));
        std::iota(plain.begin(), plain.end(), 0);
        return by_name.contains(last) ? by_name.at(last) : plain;
      };
      Write(stem, order_of(orders.outputs, shape[0]), order_of(orders.inputs, shape[1]));
    }
  }

  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const std::string& name : DummyBasedModel::Names()) {
      if (!name.ends_with("_proj.weight")) names.push_back(name);
    }
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }
  std::optional<checkpoint::TensorInfo> Find(const std::string& name) const override {
    if (name.ends_with("_proj.weight")) return std::nullopt;
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? DummyBasedModel::Find(name) : it->second.info;
  }
  const uint8_t* MappedBytes(const std::string& name) const override {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : it->second.bytes.data();
  }

 private:
  struct Tensor {
    checkpoint::TensorInfo info;
    std::vector<uint8_t> bytes;
  };

  template <typename T>
  void Put(const std::string& name, const char* type, std::vector<int64_t> shape, const std::vector<T>& values) {
    Tensor& tensor = tensors_[name];
    tensor.info = {std::move(shape), type};
    tensor.bytes.resize(values.size() * sizeof(T));
    std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  }

  // Eight inputs of a column in a word, zero points of eight columns less one.
  void Write(const std::string& stem, const Order& rows, const Order& inputs) {
    const int64_t n = std::ssize(rows), k = std::ssize(inputs), groups = k / group_;
    std::mt19937 random(static_cast<uint32_t>(std::hash<std::string>{}(stem)));
    std::vector<uint8_t> code(static_cast<size_t>(n * k)), zero(static_cast<size_t>(n * groups));
    std::vector<float> scale(static_cast<size_t>(n * groups));
    for (uint8_t& c : code) c = static_cast<uint8_t>(random() % 16);
    for (uint8_t& z : zero) z = static_cast<uint8_t>(6 + random() % 5);
    for (float& s : scale) s = 0.06f / 8 * (1 + static_cast<float>(random() % 100) / 100);
    std::vector<uint32_t> qweight, qzeros;
    std::vector<uint16_t> scales;
    for (int64_t i = 0; i < k; i += 8) {
      for (const int32_t r : rows) {
        uint32_t word = 0;
        for (int64_t j = 0; j < 8; ++j) word |= uint32_t{code[static_cast<size_t>(r * k + inputs[i + j])]} << 4 * j;
        qweight.push_back(word);
      }
    }
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t r = 0; r < n; r += 8) {
        uint32_t word = 0;
        for (int64_t j = 0; j < 8; ++j) word |= (zero[static_cast<size_t>(rows[r + j] * groups + g)] - 1u) << 4 * j;
        qzeros.push_back(word);
      }
      for (const int32_t r : rows) scales.push_back(ToHalf(scale[static_cast<size_t>(r * groups + g)]));
    }
    std::vector<int32_t> group_of;
    for (const int32_t i : inputs) group_of.push_back(static_cast<int32_t>(i / group_));
    Put(stem + ".qweight", "I32", {k / 8, n}, qweight);
    Put(stem + ".qzeros", "I32", {groups, n / 8}, qzeros);
    Put(stem + ".scales", "F16", {groups, n}, scales);
    Put(stem + ".g_idx", "I32", {k}, group_of);
  }

  const int64_t group_;
  std::map<std::string, Tensor> tensors_;
};

std::unique_ptr<checkpoint::Checkpoint> Model(int64_t group, const Orders& orders) {
  auto checkpoint = checkpoint::OpenInt4(std::make_unique<GptqFiles>(group, orders),
                                    {.layout = checkpoint::Int4Layout::kGptq, .group = group, .symmetric = false,
                                     .reordered = true, .stored_zero_less = 1});
  EXPECT_TRUE(checkpoint.has_value()) << checkpoint.error();
  return checkpoint ? std::move(*checkpoint) : nullptr;
}

// As GPTQ has them: linears of one input share its order.
Orders ActOrder() {
  Orders orders;
  const Order attention = RandomOrder(kHidden, 1), mlp = RandomOrder(kHidden, 2);
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) orders.inputs[name] = attention;
  for (const char* name : {"gate_proj", "up_proj"}) orders.inputs[name] = mlp;
  orders.inputs["o_proj"] = RandomOrder(kHeads, 3);
  orders.inputs["down_proj"] = RandomOrder(kInner, 4);
  return orders;
}

// What no quantizer is known to write, and a file may say all the same.
Orders ApartOrders() {
  Orders orders = ActOrder();
  orders.inputs["k_proj"] = RandomOrder(kHidden, 5);
  orders.inputs.erase("v_proj");
  orders.inputs["up_proj"] = RandomOrder(kHidden, 6);
  return orders;
}

// Logits of kTokens tokens in steps of so many.
constexpr int64_t kTokens = 160;
Logits RunModel(const checkpoint::Checkpoint& checkpoint, bool keep_blocks, Team team, int64_t step,
                RunnerOptions options = {}, int64_t* bytes = nullptr) {
  options.team = team;
  options.weights.keep_blocks = keep_blocks;
  const auto runner = ModelRunner::Create(checkpoint, options);
  EXPECT_TRUE(runner.has_value()) << runner.error();
  if (!runner) return {};
  if (bytes != nullptr) *bytes = (*runner)->lm().WeightBytes();
  const int sequence = (*runner)->NewSequence();
  std::mt19937 random(7);
  std::vector<int32_t> tokens(kTokens);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 500);
  Logits logits;
  for (int64_t t = 0; t < kTokens; t += step) {
    (*runner)->Step({{sequence, {tokens.begin() + t, tokens.begin() + std::min(kTokens, t + step)}}});
    logits.insert(logits.end(), (*runner)->logits().begin(), (*runner)->logits().end());
  }
  return logits;
}

TEST(Int4, LogitsAreThoseOfTheDequantizedWeights) {
  for (const int64_t group : {32, 64, 128}) {
    for (const Orders& orders : {Orders(), ActOrder(), ApartOrders()}) {
      const auto checkpoint = Model(group, orders);
      const Logits exact = RunModel(*checkpoint, false, {1, 2}, 40);
      EXPECT_GT(Cosine(RunModel(*checkpoint, true, {1, 2}, 40), exact), 0.9995) << group << " " << orders.inputs.size();
    }
  }
}

// Reordered inputs of down are the outputs of gate and up in that order: the products of a group are summed exactly.
TEST(Int4, AnotherOrderHasTheSameBits) {
  for (const int64_t group : {32, 64, 128}) {
    const Order order = RandomOrder(kInner, 8);
    const auto plain = Model(group, {}),
               reordered = Model(group, {{{"gate_proj", order}, {"up_proj", order}}, {{"down_proj", order}}});
    ASSERT_EQ(plain->BlockOrderOf("model.layers.0.mlp.down_proj.weight").size(), 0);
    ASSERT_EQ(reordered->BlockOrderOf("model.layers.0.mlp.down_proj.weight").size(), kInner);
    EXPECT_EQ(RunModel(*reordered, true, {1, 2}, 40), RunModel(*plain, true, {1, 2}, 40)) << group;
  }
}

TEST(Int4, BitsDependNeitherOnRowsNorOnWorkers) {
  for (const Orders& orders : {ActOrder(), ApartOrders()}) {
    const auto checkpoint = Model(64, orders);
    const Logits logits = RunModel(*checkpoint, true, {1, 2}, 40);
    EXPECT_EQ(RunModel(*checkpoint, true, {1, 2}, 1), logits);
    EXPECT_EQ(RunModel(*checkpoint, true, {1, 3}, 9), logits);
  }
}

// Those of o and down have no whole groups for a rank, and become BF16.
TEST(Int4, RanksOfReorderedInputs) {
  const auto checkpoint = Model(32, ActOrder());
  const Logits exact = RunModel(*checkpoint, false, {1, 2}, 40), of_two = RunModel(*checkpoint, true, {2, 1}, 40);
  EXPECT_GT(Cosine(of_two, exact), 0.9995);
  EXPECT_NE(of_two, exact);
  EXPECT_EQ(RunModel(*checkpoint, true, {2, 1}, 1), of_two);
  EXPECT_EQ(RunModel(*checkpoint, true, {2, 2}, 40), of_two);
  RunnerOptions flashcomm;
  flashcomm.graph.flashcomm_rows = 0;
  EXPECT_EQ(RunModel(*checkpoint, true, {2, 1}, kTokens, flashcomm), of_two);
}

TEST(Int4, AnotherOrderTakesItsListMore) {
  int64_t plain = 0, reordered = 0;
  RunModel(*Model(64, {}), true, {1, 2}, kTokens, {}, &plain);
  RunModel(*Model(64, ActOrder()), true, {1, 2}, kTokens, {}, &reordered);
  EXPECT_EQ(reordered - plain, 2 * 4 * (2 * kHidden + kHeads + kInner));  // two layers, four linears
}

TEST(Int4, EveryKernelTable) {
  const auto checkpoint = Model(32, ActOrder());
  const Logits exact = RunModel(*checkpoint, false, {1, 2}, 40);
  for (const kernels::KernelTable* table : AllKernels()) {
    RunnerOptions options;
    options.kernels = table;
    EXPECT_GT(Cosine(RunModel(*checkpoint, true, {1, 2}, 40, options), exact), 0.9995) << table->detail;
  }
}

}  // namespace
}  // namespace tiercel::parity
