#include "bench/file_sets.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "api/json_reader.h"
#include "base/split.h"
#include "bench/record_file.h"

namespace tiercel::bench {
namespace {

Expected<api::Json> ParseRecord(const RecordFile& file, size_t index) {
  auto json = api::ParseJson(file.text(index));
  if (json) return json;
  return Unexpected(InvalidArgument("{}: {}", file.Where(index), json.error().message()));
}

// 0 … count − 1, in the order in which a data set is used.
std::vector<size_t> Order(size_t count, bool shuffle, Random* random) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (shuffle) Shuffle(&order, random);
  return order;
}

// The member "value" of turn `index`; null: the conversation has no such turn.
Expected<const std::string*> TurnText(const RecordFile& file, size_t record, const api::Json& entry,
                                      size_t index) {
  const api::Json* turns = entry.Find("conversations");
  if (turns == nullptr || turns->array() == nullptr || turns->array()->size() <= index) {
    return nullptr;
  }
  if (const std::string* text = (*turns->array())[index].FindString("value")) return text;
  return Unexpected(
      InvalidArgument("{}: conversations[{}].value: expected a string", file.Where(record), index));
}

// Conversations that vLLM leaves out: one token of an answer measures nothing, and long ones would
// need more memory than benchmarks of old had.
bool IsFitting(int64_t prompt, int64_t output, bool own_output_len) {
  constexpr int64_t kMin = 4, kMaxPrompt = 1024, kMaxTotal = 2048;
  return prompt >= kMin && (own_output_len || output >= kMin) && prompt <= kMaxPrompt &&
         prompt + output <= kMaxTotal;
}

Expected<std::string> MaybeRender(const DataSetOptions& options, const TextTools& tools,
                                  std::string text) {
  if (!options.apply_chat_template) return text;
  if (!tools.render_chat) {
    return Unexpected(InvalidArgument(
        "--dataset-name {}: the tokenizer's folder has no chat template for its prompts; send them "
        "as they are with --skip-chat-template",
        options.name));
  }
  return tools.render_chat(text);
}

// Lengths of one row of BurstGPT's table.
struct Burst {
  int64_t prompt_tokens, output_tokens;
};

class BurstTable {
 public:
  static Expected<BurstTable> Open(const std::string& path) {
    ASSIGN_OR_RETURN(RecordFile file, RecordFile::OpenLines(path));
    BurstTable table(std::move(file));
    RETURN_IF_ERROR(table.Read());
    return table;
  }
  const std::vector<Burst>& rows() const { return rows_; }

 private:
  explicit BurstTable(RecordFile file) : file_(std::move(file)) {}

  Status Read() {
    ASSIGN_OR_RETURN(const size_t model, Column("Model"));
    ASSIGN_OR_RETURN(const size_t prompt, Column("Request tokens"));
    ASSIGN_OR_RETURN(const size_t output, Column("Response tokens"));
    for (size_t i = 1; i < file_.size(); ++i) {
      const std::vector<std::string_view> cells = Split(file_.text(i), ',');
      if (cells.size() <= std::max({model, prompt, output})) {
        return InvalidArgument("{}: found {} columns, the first line has {}", file_.Where(i),
                               cells.size(), Split(file_.text(0), ',').size());
      }
      if (cells[model] != "GPT-4") continue;  // as vLLM
      ASSIGN_OR_RETURN(const int64_t prompt_tokens, Count(cells[prompt], i, "Request tokens"));
      ASSIGN_OR_RETURN(const int64_t output_tokens, Count(cells[output], i, "Response tokens"));
      if (output_tokens > 0) rows_.push_back({prompt_tokens, output_tokens});
    }
    return OkStatus();
  }

  Expected<size_t> Column(std::string_view name) const {
    if (file_.size() > 0) {
      const auto names = Split(file_.text(0), ',');
      const auto at = std::find(names.begin(), names.end(), name);
      if (at != names.end()) return static_cast<size_t>(at - names.begin());
    }
    return Unexpected(
        InvalidArgument("the first line has no column '{}'; expected a CSV file of BurstGPT",
                        name));
  }

  Expected<int64_t> Count(std::string_view cell, size_t row, std::string_view name) const {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    if (error != std::errc() || end != cell.data() + cell.size() || value < 0 ||
        value > kMaxPromptTokens) {
      return Unexpected(InvalidArgument("{}: {}: found '{}', expected 0 … {}", file_.Where(row),
                                        name, cell.substr(0, 40), kMaxPromptTokens));
    }
    return value;
  }

  RecordFile file_;
  std::vector<Burst> rows_;
};

}  // namespace

Expected<std::vector<BenchRequest>> ShareGptRequests(const DataSetOptions& options,
                                                     const TextTools& tools, Random* random) {
  ASSIGN_OR_RETURN(const RecordFile file, RecordFile::OpenJsonList(options.path));
  std::vector<BenchRequest> requests;
  for (const size_t index : Order(file.size(), options.shuffle, random)) {
    if (std::ssize(requests) == options.num_prompts) break;
    ASSIGN_OR_RETURN(const api::Json entry, ParseRecord(file, index));
    ASSIGN_OR_RETURN(const std::string* prompt, TurnText(file, index, entry, 0));
    ASSIGN_OR_RETURN(const std::string* answer, TurnText(file, index, entry, 1));
    if (prompt == nullptr || answer == nullptr) continue;
    ASSIGN_OR_RETURN(const int64_t prompt_tokens, tools.CountTokens(*prompt));
    ASSIGN_OR_RETURN(const int64_t answer_tokens, tools.CountTokens(*answer));
    const int64_t output_tokens = options.sharegpt_output_len.value_or(answer_tokens);
    if (IsFitting(prompt_tokens, output_tokens, options.sharegpt_output_len.has_value())) {
      requests.push_back({*prompt, prompt_tokens, output_tokens});
    }
  }
  return requests;
}

Expected<std::vector<BenchRequest>> CustomRequests(const DataSetOptions& options,
                                                   const TextTools& tools, Random* random) {
  ASSIGN_OR_RETURN(const RecordFile file, RecordFile::OpenLines(options.path));
  std::vector<BenchRequest> requests;
  for (const size_t index : Order(file.size(), options.shuffle, random)) {
    if (std::ssize(requests) == options.num_prompts) break;
    ASSIGN_OR_RETURN(const api::Json line, ParseRecord(file, index));
    const std::string* prompt = line.FindString("prompt");
    if (prompt == nullptr) {
      return Unexpected(InvalidArgument("{}: prompt: expected a string", file.Where(index)));
    }
    int64_t output_tokens = options.custom_output_len;
    if (output_tokens == -1) {
      const api::Json* own = line.Find("output_tokens");
      if (own == nullptr || own->integer() == nullptr || *own->integer() < 1) {
        return Unexpected(
            InvalidArgument("{}: output_tokens: expected a positive integer, for "
                            "--custom-output-len -1",
                            file.Where(index)));
      }
      output_tokens = *own->integer();
    }
    ASSIGN_OR_RETURN(std::string text, MaybeRender(options, tools, *prompt));
    ASSIGN_OR_RETURN(const int64_t prompt_tokens, tools.CountTokens(text));
    requests.push_back({std::move(text), prompt_tokens, output_tokens});
  }
  return requests;
}

Expected<std::vector<BenchRequest>> SonnetRequests(const DataSetOptions& options,
                                                   const TextTools& tools, Random* random) {
  constexpr std::string_view kTask = "Choose lines from this poem, as many as you like:\n";
  ASSIGN_OR_RETURN(const RecordFile file, RecordFile::OpenLines(options.path));
  if (file.size() == 0) return Unexpected(InvalidArgument("{}: found no line", options.path));
  int64_t tokens_in_all = 0;
  for (size_t i = 0; i < file.size(); ++i) {
    ASSIGN_OR_RETURN(const int64_t tokens, tools.CountTokens(std::string(file.text(i)) + "\n"));
    tokens_in_all += tokens;
  }
  const double line_tokens = static_cast<double>(tokens_in_all) / static_cast<double>(file.size());
  ASSIGN_OR_RETURN(const std::string bare, MaybeRender(options, tools, std::string(kTask)));
  ASSIGN_OR_RETURN(const int64_t bare_tokens, tools.CountTokens(bare));
  const auto lines_of = [&](int64_t tokens) {
    return std::max<int64_t>(0,
                             std::llround(static_cast<double>(tokens - bare_tokens) / line_tokens));
  };
  const int64_t prefix_lines =
      std::min(lines_of(options.sonnet.prefix_len), static_cast<int64_t>(file.size()));
  const int64_t drawn_lines = lines_of(options.sonnet.input_len) - prefix_lines;
  if (options.sonnet.input_len <= bare_tokens || drawn_lines < 1) {
    return Unexpected(InvalidArgument(
        "--sonnet-input-len: found {}, expected room for a line more than the {} tokens before it "
        "and --sonnet-prefix-len {}",
        options.sonnet.input_len, bare_tokens, options.sonnet.prefix_len));
  }
  std::vector<BenchRequest> requests;
  // Lines differ in length, so that about every second prompt is too long.
  const int64_t tries = 100 + 20 * options.num_prompts;
  for (int64_t i = 0; i < tries && std::ssize(requests) < options.num_prompts; ++i) {
    std::string prompt(kTask);
    const auto add = [&](size_t line) { (prompt += file.text(line)) += '\n'; };
    for (int64_t line = 0; line < prefix_lines; ++line) add(static_cast<size_t>(line));
    for (int64_t line = 0; line < drawn_lines; ++line) add(Below(random, file.size()));
    ASSIGN_OR_RETURN(std::string text, MaybeRender(options, tools, std::move(prompt)));
    ASSIGN_OR_RETURN(const int64_t tokens, tools.CountTokens(text));
    if (tokens <= options.sonnet.input_len) {
      requests.push_back({std::move(text), tokens, options.sonnet.output_len});
    }
  }
  return requests;
}

Expected<std::vector<BenchRequest>> BurstGptRequests(const DataSetOptions& options,
                                                     const TextTools& tools, Random* random) {
  auto table = BurstTable::Open(options.path);
  if (!table) {
    const std::string& message = table.error().message();
    return Unexpected(message.starts_with(options.path)
                          ? table.error()
                          : InvalidArgument("{}: {}", options.path, message));
  }
  std::vector<Burst> rows = table->rows();
  if (rows.empty()) {
    return Unexpected(InvalidArgument("{}: found no row of GPT-4 with an answer", options.path));
  }
  Shuffle(&rows, random);
  ASSIGN_OR_RETURN(const RandomText words, RandomText::Create(tools.tokenizer.get()));
  std::vector<BenchRequest> requests;
  const size_t once = rows.size();
  int64_t tokens_in_all = 0;
  for (int64_t i = 0; i < options.num_prompts; ++i) {
    // Each row once, and if that is not enough, any.
    const Burst& row =
        rows[static_cast<size_t>(i) < once ? static_cast<size_t>(i) : Below(random, once)];
    if ((tokens_in_all += row.prompt_tokens) > kMaxTokensInAll) {
      return Unexpected(
          InvalidArgument("{}: the prompts have more than {} tokens together; ask for fewer with "
                          "--num-prompts",
                          options.path, kMaxTokensInAll));
    }
    ASSIGN_OR_RETURN(
        RandomText::Prompt prompt,
        words.Fit(words.Tokens(std::max<int64_t>(row.prompt_tokens, 1), random), random));
    requests.push_back({std::move(prompt.text), prompt.tokens, row.output_tokens});
  }
  return requests;
}

}  // namespace tiercel::bench
