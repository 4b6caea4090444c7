// The answers of the endpoints that pool. Nothing is streamed: all is written once, at the end.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "api/answer_writer.h"
#include "api/base64.h"
#include "api/json_writer.h"
#include "base/bf16.h"
#include "base/check.h"

namespace tiercel::api {
namespace {

void AppendFloats(const std::vector<float>& values, std::string* out) {
  out->push_back('[');
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out->push_back(',');
    AppendJsonFloat(out, values[i]);
  }
  out->push_back(']');
}

// Nearest, ties to even; beyond the largest number infinity, as IEEE says.
uint16_t ToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 0x1p-14f) {  // subnormal: a multiple of 2⁻²⁴
    return sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f));
  }
  const uint32_t rest = bits & 0x7fffffff;
  const uint32_t rounded = rest + 0xfff + (rest >> 13 & 1);
  return sign | static_cast<uint16_t>((rounded >> 13) - (uint32_t{127 - 15} << 10));
}

template <typename T>
void AppendBytes(T value, bool big_endian, std::string* out) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  if (big_endian != (std::endian::native == std::endian::big)) std::reverse(bytes, bytes + sizeof(T));
  out->append(bytes, sizeof(T));
}

void AppendBytes(const std::vector<float>& values, const PoolingEncoding& encoding,
                 std::string* out) {
  for (const float value : values) {
    switch (encoding.type) {
      case PoolingEncoding::kFloat32: AppendBytes(value, encoding.big_endian, out); break;
      case PoolingEncoding::kFloat16: AppendBytes(ToHalf(value), encoding.big_endian, out); break;
      case PoolingEncoding::kBFloat16:
        AppendBytes(ToBF16(value).bits, encoding.big_endian, out);
        break;
    }
  }
}

double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return ab / std::max(std::sqrt(aa) * std::sqrt(bb), 1e-8);
}

class PoolingWriter final : public AnswerWriter {
 public:
  explicit PoolingWriter(const Answer& answer) : answer_(answer), pooling_(*answer.plan.pooling) {}

  void AddPrompt(int) override {}
  void AddTokens(int, std::span<const engine::OutputToken>) override {}
  int64_t pending_bytes(int) const override { return 0; }
  void AppendStart(std::string*) override {}
  void AppendChunk(int, bool, std::string*) override {}
  void AppendEnd(std::string*) override {}

  std::string TakeBody() override {
    if (pooling_.endpoint == PoolingEndpoint::kRerank) return RerankBody();
    std::string out = R"({"id":)";
    AppendJsonString(&out, plan().id);
    out += R"(,"object":"list","created":)";
    AppendJsonInt(&out, plan().created);
    out += R"(,"model":)";
    AppendJsonString(&out, plan().model);
    out += R"(,"data":[)";
    const size_t count =
        pooling_.endpoint == PoolingEndpoint::kScore ? NumScores() : answer_.prompts.size();
    for (size_t i = 0; i < count; ++i) {
      out += fmt::format(R"({}{{"index":{})", i > 0 ? "," : "", i);
      AppendItem(i, &out);
      out += '}';
    }
    out += "],";
    AppendUsage(R"(,"completion_tokens":0,"prompt_tokens_details":null)", &out);
    return out += '}';
  }

 private:
  const ResponsePlan& plan() const { return answer_.plan; }
  const std::vector<std::vector<float>>& Pooled(size_t prompt) const {
    return answer_.prompts[prompt].info.pooled;
  }
  // The values of a prompt's one row.
  const std::vector<float>& Values(size_t prompt) const {
    CHECK_EQ(Pooled(prompt).size(), 1u);
    return Pooled(prompt)[0];
  }

  size_t NumScores() const { return answer_.prompts.size() - pooling_.num_first_texts; }
  double Score(size_t pair) const {
    const size_t firsts = pooling_.num_first_texts;
    if (firsts == 0) return Values(pair)[0];
    return Cosine(Values(firsts == 1 ? 0 : pair), Values(firsts + pair));
  }

  void AppendItem(size_t i, std::string* out) const {
    switch (pooling_.endpoint) {
      case PoolingEndpoint::kEmbeddings:
        *out += R"(,"object":"embedding","embedding":)";
        return AppendValues(i, out);
      case PoolingEndpoint::kPooling:
        *out += R"(,"object":"pooling","data":)";
        return AppendValues(i, out);
      case PoolingEndpoint::kClassify: return AppendLabels(Values(i), out);
      case PoolingEndpoint::kScore:
        *out += R"(,"object":"score","score":)";
        return AppendJsonFloat(out, static_cast<float>(Score(i)));
      case PoolingEndpoint::kRerank: return;  // has a body of its own
    }
  }

  void AppendValues(size_t prompt, std::string* out) const {
    if (pooling_.encoding.base64) {
      std::string bytes;
      for (const std::vector<float>& row : Pooled(prompt)) AppendBytes(row, pooling_.encoding, &bytes);
      out->push_back('"');
      AppendBase64(bytes, out);
      out->push_back('"');
      return;
    }
    if (!pooling_.every_token) return AppendFloats(Values(prompt), out);
    out->push_back('[');
    for (size_t i = 0; i < Pooled(prompt).size(); ++i) {
      if (i > 0) out->push_back(',');
      AppendFloats(Pooled(prompt)[i], out);
    }
    out->push_back(']');
  }

  void AppendLabels(const std::vector<float>& values, std::string* out) const {
    const auto best = std::max_element(values.begin(), values.end()) - values.begin();
    const std::string& label = pooling_.labels[static_cast<size_t>(best)];
    *out += R"(,"label":)";
    AppendJsonStringOrNull(out, label.empty() ? std::nullopt : std::optional(label));
    *out += R"(,"probs":)";
    AppendFloats(values, out);
    *out += fmt::format(R"(,"num_classes":{})", values.size());
  }

  void AppendUsage(std::string_view more, std::string* out) const {
    const int64_t tokens = answer_.WholeUsage().prompt_tokens;
    *out += fmt::format(R"("usage":{{"prompt_tokens":{0},"total_tokens":{0}{1}}})", tokens, more);
  }

  // Best first; those of one score in their order.
  std::string RerankBody() const {
    std::vector<double> scores(NumScores());
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = Score(i);
    std::vector<size_t> order(scores.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    if (pooling_.top_n > 0 && pooling_.top_n < order.size()) order.resize(pooling_.top_n);
    std::string out = R"({"id":)";
    AppendJsonString(&out, plan().id);
    out += R"(,"model":)";
    AppendJsonString(&out, plan().model);
    out += ',';
    AppendUsage("", &out);
    out += R"(,"results":[)";
    for (size_t i = 0; i < order.size(); ++i) {
      out += fmt::format(R"({}{{"index":{},"document":{{"text":)", i > 0 ? "," : "", order[i]);
      AppendJsonString(&out, pooling_.documents[order[i]]);
      out += R"(,"multi_modal":null},"relevance_score":)";
      AppendJsonFloat(&out, static_cast<float>(scores[order[i]]));
      out += '}';
    }
    return out += "]}";
  }

  const Answer& answer_;
  const PoolingPlan& pooling_;
};

}  // namespace

std::unique_ptr<AnswerWriter> NewPoolingWriter(const Answer& answer) {
  return std::make_unique<PoolingWriter>(answer);
}

}  // namespace tiercel::api
