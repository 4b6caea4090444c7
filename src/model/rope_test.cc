#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace tiercel::model {
namespace {

checkpoint::RopeConfig FromJson(const nlohmann::json& json) {
  checkpoint::RopeConfig config;
  config.theta = json["rope_theta"];
  const nlohmann::json& scaling = json["rope_scaling"];
  if (scaling.is_null()) return config;
  const std::string type = scaling["rope_type"];
  config.type = type == "linear" ? checkpoint::RopeType::kLinear
                : type == "yarn" ? checkpoint::RopeType::kYarn
                                 : checkpoint::RopeType::kLlama3;
  config.factor = scaling["factor"];
  config.original_max_position_embeddings = scaling.value("original_max_position_embeddings", 0);
  config.truncate = scaling.value("truncate", true);
  config.beta_fast = scaling.value("beta_fast", 32.0);
  config.beta_slow = scaling.value("beta_slow", 1.0);
  if (scaling.contains("attention_factor")) config.attention_factor = scaling["attention_factor"];
  return config;
}

// Goldens of Hugging Face's ROPE_INIT_FUNCTIONS, made by tests/parity/make_goldens.py. Its FP32 pow
// is not exactly rounded, so the last bits may differ: 2^-22 relative is four units in the last
// place, an error of 0.01 radians at position 40000 of the fastest wave.
TEST(RopeTest, InverseFrequenciesEqualHuggingFace) {
  std::ifstream file(std::string(TIERCEL_TEST_DATA) + "/models/rope.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  ASSERT_EQ(cases.size(), 8u);
  for (const nlohmann::json& golden : cases) {
    const nlohmann::json& config = golden["config"];
    const RopeTable table = MakeRopeTable(FromJson(config), config["head_dim"],
                                          config["max_position_embeddings"]);
    ASSERT_EQ(table.inv_freq.size(), golden["inv_freq"].size());
    for (size_t i = 0; i < table.inv_freq.size(); ++i) {
      const double expected = golden["inv_freq"][i];
      EXPECT_NEAR(table.inv_freq[i] / expected, 1.0, 0x1p-22) << config << " dimension " << i;
    }
    EXPECT_FLOAT_EQ(table.attention_factor, golden["attention_factor"].get<float>()) << config;
  }
}

}  // namespace
}  // namespace tiercel::model
