// The flags of `vllm bench`, beside those of the engine; see option_table.h for what the columns
// mean.
#include "options/option_table.h"

namespace tiercel::options {
namespace {

constexpr OptionSpec kServer[] = {
    {"--backend --endpoint-type", Kind::kString, "openai", Effect::kUsed,
     "What is sent: completions (openai, vllm) or chats (openai-chat).", "openai|vllm|openai-chat"},
    {"--base-url", Kind::kString, "", Effect::kUsed,
     "Where the server is, without the endpoint; instead of --host and --port."},
    {"--host", Kind::kString, "127.0.0.1", Effect::kUsed, "The server's name or address."},
    {"--port", Kind::kInt, "8000", Effect::kUsed, "The server's port."},
    {"--endpoint", Kind::kString, "", Effect::kUsed,
     "Path of the API. Default: /v1/completions, or /v1/chat/completions for openai-chat."},
    {"--header", Kind::kStrings, "", Effect::kUsed,
     "KEY=VALUE headers of every request; they replace others. The key for the server is taken "
     "from OPENAI_API_KEY."},
    {"--insecure", Kind::kFlag, "", Effect::kUsed, "Do not check the server's certificate."},
    {"--model", Kind::kString, "", Effect::kUsed,
     "The model's name, and where its tokenizer is: a folder, a .gguf file or a hub id. Default: "
     "the first model that the server names."},
    {"--served-model-name", Kind::kString, "", Effect::kUsed,
     "The name to ask for, if it is not --model."},
    {"--tokenizer", Kind::kString, "", Effect::kUsed,
     "Folder, .gguf file or hub id of the tokenizer, if it is not the model's."},
    {"--tokenizer-mode", Kind::kString, "auto", Effect::kNone,
     "The one tokenizer here is the fast one."},
    {"--trust-remote-code", Kind::kFlag, "", Effect::kNone, "No code of a model is run."},
    {"--skip-tokenizer-init", Kind::kFlag, "", Effect::kRefused,
     "Prompts are made and counted with the tokenizer."},
};

constexpr OptionSpec kTraffic[] = {
    {"--request-rate", Kind::kString, "inf", Effect::kUsed, "Requests a second. inf: all at once."},
    {"--burstiness", Kind::kString, "1.0", Effect::kUsed,
     "Shape of the intervals' gamma distribution: 1 is a Poisson process, less comes in bursts, "
     "inf is even. Without effect where all come at once."},
    {"--max-concurrency", Kind::kInt, "", Effect::kUsed,
     "Requests that may run at a time; others wait in the client."},
    {"--ramp-up-strategy", Kind::kString, "", Effect::kUsed,
     "Let the rate grow from --ramp-up-start-rps to --ramp-up-end-rps.", "linear|exponential"},
    {"--ramp-up-start-rps", Kind::kInt, "", Effect::kUsed, "Requests a second at the start."},
    {"--ramp-up-end-rps", Kind::kInt, "", Effect::kUsed, "Requests a second at the end."},
    {"--ready-check-timeout-sec", Kind::kInt, "0", Effect::kUsed,
     "Wait so long for the first request to succeed before the run. 0: no such request."},
    {"--num-warmups", Kind::kInt, "0", Effect::kUsed,
     "Send the first request so often before the run."},
    {"--probe-request-rate", Kind::kFloat, "0.0", Effect::kRefused, "There are no probes."},
    {"--self-timed", Kind::kSwitch, "", Effect::kRefused, "Traces with times are not read."},
    {"--request-id-prefix", Kind::kString, "", Effect::kUsed,
     "Of x-request-id, before the request's number. Default: bench- and a random word."},
    {"--lora-modules", Kind::kStrings, "", Effect::kRefused, "There is no LoRA."},
    {"--lora-assignment", Kind::kString, "random", Effect::kNone, "There is no LoRA.",
     "random|round-robin"},
};

constexpr OptionSpec kSampling[] = {
    {"--ignore-eos", Kind::kFlag, "", Effect::kUsed,
     "Let every answer have its whole length. Always so with the random data set."},
    {"--temperature", Kind::kFloat, "", Effect::kUsed, "Default: the server's."},
    {"--top-p", Kind::kFloat, "", Effect::kUsed, "Default: the server's."},
    {"--top-k", Kind::kInt, "", Effect::kUsed, "Default: the server's."},
    {"--min-p", Kind::kFloat, "", Effect::kUsed, "Default: the server's."},
    {"--frequency-penalty", Kind::kFloat, "", Effect::kUsed, "Default: the server's."},
    {"--presence-penalty", Kind::kFloat, "", Effect::kUsed, "Default: the server's."},
    {"--repetition-penalty", Kind::kFloat, "", Effect::kUsed, "Default: 1 for completions."},
    {"--logprobs", Kind::kInt, "", Effect::kUsed, "Log probabilities to ask for with every token."},
    {"--extra-body", Kind::kJson, "", Effect::kUsed, "More fields of every request's body."},
    {"--use-beam-search", Kind::kFlag, "", Effect::kRefused, "Beam search is not measured."},
};

constexpr OptionSpec kResults[] = {
    {"--percentile-metrics", Kind::kString, "ttft,tpot,itl", Effect::kUsed,
     "Which of ttft, tpot, itl, e2el, client_queue_time and e2el_including_client_queue are "
     "shown."},
    {"--metric-percentiles", Kind::kString, "99", Effect::kUsed,
     "Percentiles of these: 25,50,75,99.9."},
    {"--goodput", Kind::kStrings, "", Effect::kUsed,
     "Count requests that keep these bounds, in milliseconds: ttft:200 tpot:50 e2el:4000."},
    {"--save-result", Kind::kFlag, "", Effect::kUsed, "Write the results to a JSON file."},
    {"--save-detailed", Kind::kFlag, "", Effect::kUsed,
     "With every request's lengths, times, text and error."},
    {"--append-result", Kind::kFlag, "", Effect::kUsed,
     "Write them behind what the file has, on a line of their own."},
    {"--result-dir", Kind::kString, "", Effect::kUsed,
     "Folder of the file. Default: the current one."},
    {"--result-filename", Kind::kString, "", Effect::kUsed,
     "Default: {label}-{rate}qps[-concurrency{N}]-{model}-{date}-{time}.json"},
    {"--plot", Kind::kString, "", Effect::kUsed,
     "Draw percentiles, throughput and a timeline into this SVG file."},
    {"--metadata", Kind::kStrings, "", Effect::kUsed, "KEY=VALUE to be written with the results."},
    {"--label", Kind::kString, "", Effect::kUsed, "Names the results. Default: the backend."},
    {"--disable-tqdm", Kind::kFlag, "", Effect::kUsed, "No progress bar."},
    {"--profile", Kind::kFlag, "", Effect::kRefused, "Servers are not profiled from here."},
    {"--plot-timeline", Kind::kFlag, "", Effect::kRefused, "There is no such plot; see --plot."},
    {"--timeline-itl-thresholds", Kind::kString, "25,50", Effect::kNone, "There is no such plot."},
    {"--plot-dataset-stats", Kind::kFlag, "", Effect::kRefused, "There is no such plot."},
};

// What every data set needs; --seed is the engine's in commands that have one.
constexpr OptionSpec kSeed[] = {
    {"--seed", Kind::kInt, "0", Effect::kUsed, "Of prompts, lengths and arrival times."},
};

constexpr OptionSpec kDataSets[] = {
    {"--dataset-name", Kind::kString, "random", Effect::kUsed, "Where prompts come from.",
     "random|prefix_repetition|sharegpt|sonnet|custom|burstgpt"},
    {"--dataset-path", Kind::kString, "", Effect::kUsed,
     "File of the data set: ShareGPT's JSON list, a poem, JSON lines with \"prompt\", BurstGPT's "
     "CSV."},
    {"--num-prompts", Kind::kInt, "1000", Effect::kUsed, "Requests to send."},
    {"--input-len", Kind::kInt, "", Effect::kUsed, "Tokens of a prompt, for the random data set."},
    {"--output-len", Kind::kInt, "", Effect::kUsed, "Tokens of an answer, for every data set."},
    {"--no-oversample", Kind::kFlag, "", Effect::kUsed,
     "Send fewer requests where the file has fewer prompts, rather than some again."},
    {"--disable-shuffle", Kind::kFlag, "", Effect::kUsed, "Take entries in the file's order."},
    {"--skip-chat-template", Kind::kFlag, "", Effect::kUsed,
     "Send prompts of sonnet and custom as they are."},
    {"--chat-template-kwargs", Kind::kJson, "", Effect::kUsed,
     "More variables for the chat template of sonnet and custom."},
    {"--no-stream", Kind::kFlag, "", Effect::kNone, "Files are read as needed."},
    {"--enable-multimodal-chat", Kind::kFlag, "", Effect::kRefused, "Prompts are text."},
    {"--random-input-len", Kind::kInt, "1024", Effect::kUsed, "random: tokens of a prompt."},
    {"--random-output-len", Kind::kInt, "128", Effect::kUsed, "random: tokens of an answer."},
    {"--random-range-ratio", Kind::kString, "0.0", Effect::kUsed,
     "random: draw lengths from LENGTH · (1 ± ratio). A number, or {\"input\": 0.3, \"output\": "
     "0.5}."},
    {"--random-prefix-len", Kind::kInt, "0", Effect::kUsed,
     "random: tokens that all prompts begin with, beside the others."},
    {"--random-batch-size", Kind::kInt, "1", Effect::kRefused, "Requests have one prompt."},
    {"--prefix-repetition-prefix-len", Kind::kInt, "256", Effect::kUsed,
     "prefix_repetition: tokens that prompts share."},
    {"--prefix-repetition-suffix-len", Kind::kInt, "256", Effect::kUsed,
     "prefix_repetition: tokens of their own."},
    {"--prefix-repetition-num-prefixes", Kind::kInt, "10", Effect::kUsed,
     "prefix_repetition: how many beginnings there are."},
    {"--prefix-repetition-output-len", Kind::kInt, "128", Effect::kUsed,
     "prefix_repetition: tokens of an answer."},
    {"--sharegpt-output-len", Kind::kInt, "", Effect::kUsed,
     "sharegpt: tokens of an answer. Default: as in the file."},
    {"--sonnet-input-len", Kind::kInt, "550", Effect::kUsed, "sonnet: most tokens of a prompt."},
    {"--sonnet-output-len", Kind::kInt, "150", Effect::kUsed, "sonnet: tokens of an answer."},
    {"--sonnet-prefix-len", Kind::kInt, "200", Effect::kUsed, "sonnet: tokens that prompts share."},
    {"--custom-output-len", Kind::kInt, "256", Effect::kUsed,
     "custom: tokens of an answer. -1: output_tokens of the prompt's line."},
};

// What both benchmarks of the engine in the process have.
constexpr OptionSpec kOffline[] = {
    {"--n", Kind::kInt, "1", Effect::kUsed, "Answers to each prompt."},
    {"--output-json", Kind::kString, "", Effect::kUsed, "Write the results to this file."},
    {"--plot", Kind::kString, "", Effect::kUsed, "Draw what was measured into this SVG file."},
    {"--disable-detokenize", Kind::kFlag, "", Effect::kUsed, "Do not turn tokens into text."},
    {"--disable-tqdm", Kind::kFlag, "", Effect::kUsed, "No progress bar."},
    {"--profile", Kind::kFlag, "", Effect::kRefused, "There is no profiler; see perf."},
};

constexpr OptionSpec kLatency[] = {
    {"--input-len", Kind::kInt, "32", Effect::kUsed, "Tokens of a prompt."},
    {"--output-len", Kind::kInt, "128", Effect::kUsed, "Tokens of an answer."},
    {"--batch-size", Kind::kInt, "8", Effect::kUsed, "Prompts at a time."},
    {"--num-iters-warmup", Kind::kInt, "10", Effect::kUsed, "Batches before those that are timed."},
    {"--num-iters", Kind::kInt, "30", Effect::kUsed, "Batches that are timed."},
    {"--use-beam-search", Kind::kFlag, "", Effect::kRefused, "Beam search is not measured."},
};

constexpr OptionSpec kThroughput[] = {
    {"--backend", Kind::kString, "vllm", Effect::kUsed, "The engine of this process.", "vllm"},
    {"--dataset", Kind::kString, "", Effect::kUsed,
     "An older name of --dataset-path; alone it means sharegpt."},
    {"--prefix-len", Kind::kInt, "", Effect::kUsed,
     "An older name of --random-prefix-len and --sonnet-prefix-len."},
    {"--num-warmups", Kind::kInt, "0", Effect::kUsed, "Send the first requests so often before."},
    {"--async-engine", Kind::kFlag, "", Effect::kNone,
     "The engine is asynchronous."},
    {"--prequeue-requests", Kind::kFlag, "", Effect::kNone, "All requests are queued at once."},
    {"--lora-path", Kind::kString, "", Effect::kRefused, "There is no LoRA."},
};

}  // namespace

const OptionTable& BenchLatencyOptionTable() {
  static const OptionTable table = WithServeOptions({
      {"latency", "The batch.", kLatency},
      {"bench", "Of both benchmarks of the engine.", kOffline},
  });
  return table;
}

const OptionTable& BenchThroughputOptionTable() {
  static const OptionTable table = WithServeOptions({
      {"throughput", "The run.", kThroughput},
      {"bench", "Of both benchmarks of the engine.", kOffline},
      {"dataset", "Prompts and lengths.", kDataSets},
  });
  return table;
}

const OptionTable& BenchServeOptionTable() {
  static const OptionTable table({
      {"server", "The server and what it is asked for.", kServer},
      {"traffic", "When requests are sent.", kTraffic},
      {"sampling", "How answers are sampled.", kSampling},
      {"dataset", "Prompts and lengths.", kDataSets},
      {"seed", "What is random.", kSeed},
      {"results", "What is shown and written.", kResults},
  });
  return table;
}

}  // namespace tiercel::options
