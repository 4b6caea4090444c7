// For tests of api/ and server/: a byte-level tokenizer without merges, and scripted streams.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/options.h"
#include "engine/engine.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace tiercel::api {

constexpr int32_t kImStart = 256;
constexpr int32_t kImEnd = 257;
constexpr int32_t kTestVocab = 258;

inline std::shared_ptr<const text::Tokenizer> NewByteTokenizer() {
  GgufVocab vocab;
  vocab.model = "gpt2";
  vocab.pre = "qwen2";
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    // GPT-2's printable spelling of the bytes.
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    std::string token;
    text::AppendCharacter(static_cast<uint32_t>(printable ? byte : next++), &token);
    vocab.tokens.push_back(token);
    vocab.token_types.push_back(1);
  }
  for (const char* special : {"<|im_start|>", "<|im_end|>"}) {
    vocab.tokens.push_back(special);
    vocab.token_types.push_back(3);
  }
  vocab.eos = kImEnd;
  auto tokenizer = text::Tokenizer::FromGguf(vocab);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error();
  return *tokenizer;
}

// Token b is byte b; <|im_start|> and <|im_end|> are special. One for all tests.
inline std::shared_ptr<const text::Tokenizer> ByteTokenizer() {
  static const std::shared_ptr<const text::Tokenizer> tokenizer = NewByteTokenizer();
  return tokenizer;
}

inline std::vector<int32_t> Bytes(std::string_view text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

inline engine::StreamEvent Event(std::vector<int32_t> tokens,
                                 engine::FinishReason finish = engine::FinishReason::kNone,
                                 int index = 0) {
  engine::StreamEvent event;
  event.index = index;
  event.finish = finish;
  for (const int32_t token : tokens) {
    event.tokens.push_back({token, {{token, -0.5f, 1}, {token, -0.5f, 1}, {'z', -2.0f, 2}}});
  }
  return event;
}

// Gives what the test has put in; remembers which samples were stopped.
class ScriptedStream final : public engine::Stream {
 public:
  void Put(engine::StreamEvent event) { events_.push_back(std::move(event)); }
  void PutInfo(engine::PromptInfo info) { info_ = std::move(info); }

  bool Poll(std::vector<engine::StreamEvent>* events) override {
    if (events_.empty()) return false;
    for (auto& event : events_) events->push_back(std::move(event));
    events_.clear();
    return true;
  }
  bool Wait(double) override { return !events_.empty(); }
  void Stop(int index) override { stopped.push_back(index); }
  bool finished() const override { return false; }
  std::optional<engine::PromptInfo> TakePromptInfo() override { return std::exchange(info_, std::nullopt); }

  std::vector<int> stopped;

 private:
  std::vector<engine::StreamEvent> events_;
  std::optional<engine::PromptInfo> info_ = engine::PromptInfo();
};

inline ModelInfo TestModel(int64_t max_model_len = 128) {
  ModelInfo model;
  model.served_names = {"test", "alias"};
  model.root = "/models/test";
  model.max_model_len = max_model_len;
  model.vocab_size = kTestVocab;
  model.tokenizer = ByteTokenizer();
  model.grammars = std::make_shared<text::GrammarCompiler>(model.tokenizer, model.vocab_size,
                                                           std::vector<int32_t>{kImEnd});
  model.template_pool = std::make_shared<text::TemplatePool>(
      text::TemplatePool::Options{.executable = TIERCEL_TEMPLATE_WORKER});
  auto chat_template = text::ChatTemplate::Compile(
      model.template_pool,
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
  EXPECT_TRUE(chat_template.has_value());
  model.chat_template = *chat_template;
  return model;
}

}  // namespace tiercel::api
