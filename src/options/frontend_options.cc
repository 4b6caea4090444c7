// The HTTP server.
// Names and defaults are vLLM's; see option_table.h for what the columns mean.
#include "options/option_table.h"

namespace tiercel::options {
namespace {

constexpr OptionSpec kFrontend[] = {
    {"--host", Kind::kString, "", Effect::kUsed, "Address to listen on. Default: all."},
    {"--port", Kind::kInt, "8000", Effect::kUsed,
     "Port to listen on; it is taken at once, and connections are accepted when the model is "
     "loaded. 0: any free one."},
    {"--early-health", Kind::kSwitch, "False", Effect::kUsed,
     "Accept connections while the model is being loaded: /health is 503 until it is there."},
    {"--uds", Kind::kString, "", Effect::kUsed, "Path of a Unix socket to listen on instead."},
    {"--grpc-port", Kind::kInt, "", Effect::kRefused, "There is no gRPC server."},
    {"--uvicorn-log-level", Kind::kString, "info", Effect::kUsed,
     "Least severe messages of the HTTP part of the log: access lines are info.",
     "critical|error|warning|info|debug|trace"},
    {"--disable-uvicorn-access-log", Kind::kSwitch, "False", Effect::kUsed,
     "No line for every request."},
    {"--disable-access-log-for-endpoints", Kind::kString, "", Effect::kUsed,
     "Paths, separated by commas, whose requests are not logged."},
    {"--allow-credentials", Kind::kSwitch, "False", Effect::kUsed,
     "CORS: let browsers send credentials."},
    {"--allowed-origins", Kind::kJsonList, "[]", Effect::kUsed,
     "CORS: JSON list of origins; empty: CORS is off."},
    {"--allowed-methods", Kind::kJsonList, "[\"*\"]", Effect::kUsed, "CORS: JSON list of methods."},
    {"--allowed-headers", Kind::kJsonList, "[\"*\"]", Effect::kUsed, "CORS: JSON list of headers."},
    {"--api-key", Kind::kStrings, "", Effect::kUsed,
     "Keys, one of which every request under /v1 must bring (also VLLM_API_KEY)."},
    {"--ssl-keyfile", Kind::kString, "", Effect::kUsed, "Private key of the TLS certificate."},
    {"--ssl-certfile", Kind::kString, "", Effect::kUsed, "TLS certificate chain."},
    {"--ssl-ca-certs", Kind::kString, "", Effect::kUsed,
     "Certificates of the authorities for client certificates."},
    {"--enable-ssl-refresh", Kind::kSwitch, "False", Effect::kUsed,
     "Use changed TLS files for new connections without a restart."},
    {"--ssl-cert-reqs", Kind::kInt, "0", Effect::kUsed,
     "Client certificates: 0 none, 1 optional, 2 required.",
     "0|1|2"},
    {"--ssl-ciphers", Kind::kString, "", Effect::kUsed,
     "TLS ciphers (1.2 and older), as OpenSSL writes them."},
    {"--root-path", Kind::kString, "", Effect::kUsed, "Path prefix of a proxy in front."},
    {"--ui", Kind::kSwitch, "True", Effect::kUsed,
     "A page at / to chat and to see the server's load; it needs no key, what it asks for does."},
    {"--middleware", Kind::kStrings, "", Effect::kRefused, "Python plugins cannot be loaded."},
    {"--enable-request-id-headers", Kind::kSwitch, "False", Effect::kUsed,
     "Answer with an X-Request-Id header."},
    {"--disable-fastapi-docs", Kind::kSwitch, "False", Effect::kUsed,
     "Leave out /openapi.json, /docs and /redoc."},
    {"--enable-offline-docs", Kind::kSwitch, "False", Effect::kNone,
     "/docs needs nothing from other addresses."},
    {"--h11-max-incomplete-event-size", Kind::kHumanInt, "4194304", Effect::kNone,
     "Heads are limited to 64 KiB and bodies to 64 MiB."},
    {"--h11-max-header-count", Kind::kInt, "256", Effect::kUsed, "Most header lines of a request."},
    {"--lora-modules", Kind::kStrings, "", Effect::kRefused, "LoRA adapters are not offered yet."},
    {"--chat-template", Kind::kString, "", Effect::kUsed,
     "A Jinja template (a file, or the text itself) instead of the model's own."},
    {"--chat-template-content-format", Kind::kString, "auto", Effect::kUsed,
     "What the template finds as the content of messages: string, a text; openai, a list of parts; auto: a "
     "list where the template writes its texts.",
     "auto|string|openai"},
    {"--trust-request-chat-template", Kind::kSwitch, "False", Effect::kUsed,
     "Let requests bring their own chat_template."},
    {"--split-special-tokens", Kind::kSwitch, "False", Effect::kUsed,
     "What looks like a special token in tools, documents and messages (but those of system and "
     "assistant) is text: a user cannot end a turn."},
    {"--default-chat-template-kwargs", Kind::kJson, "{}", Effect::kUsed,
     "JSON object with template variables for every chat request, such as "
     "{\"enable_thinking\": false}."},
    {"--response-role", Kind::kString, "assistant", Effect::kUsed,
     "Role of the answer when a generation prompt was added."},
    {"--return-tokens-as-token-ids", Kind::kSwitch, "False", Effect::kUsed,
     "Show tokens of logprobs as token_id:N."},
    {"--enable-auto-tool-choice", Kind::kSwitch, "False", Effect::kUsed,
     "Let the model choose whether it calls tools; with --tool-call-parser."},
    {"--tool-call-parser", Kind::kString, "", Effect::kUsed,
     "How the model writes tool calls: hermes (also called qwen3_json), the form of Qwen3's own template; "
     "qwen3_coder (qwen3_xml), llama3_json (llama4_json), pythonic (llama4_pythonic)."},
    {"--tool-parser-plugin", Kind::kString, "", Effect::kRefused, "Python plugins cannot be loaded."},
    {"--exclude-tools-when-tool-choice-none", Kind::kSwitch, "False", Effect::kUsed,
     "Leave tools out of the prompt for tool_choice none."},
    {"--tool-strict-level", Kind::kString, "auto", Effect::kRefused,
     "A function's own strict says whether its calls are held to its parameters; those of tool_choice required or named "
     "always are."},
    {"--tool-server", Kind::kString, "", Effect::kRefused, "There are no built-in tools."},
    {"--max-log-len", Kind::kInt, "", Effect::kUsed,
     "Most characters or token ids of a prompt in the log."},
    {"--enable-prompt-tokens-details", Kind::kSwitch, "False", Effect::kUsed,
     "Show cached_tokens in usage."},
    {"--enable-per-request-metrics", Kind::kSwitch, "False", Effect::kRefused,
     "Not offered; /metrics has the totals."},
    {"--enable-server-load-tracking", Kind::kSwitch, "False", Effect::kUsed,
     "Count running requests for /load."},
    {"--enable-force-include-usage", Kind::kSwitch, "False", Effect::kUsed,
     "Send usage with every stream."},
    {"--sse-keep-alive-interval", Kind::kFloat, "0", Effect::kUsed,
     "Seconds between comment lines in quiet streams; 0: none. In those of /v1/messages, between ping events; 0: 10."},
    {"--enable-tokenizer-info-endpoint", Kind::kSwitch, "False", Effect::kUsed,
     "Offer /tokenizer_info: the tokenizer's configuration, and the chat template."},
    {"--enable-log-outputs", Kind::kSwitch, "False", Effect::kRefused,
     "Outputs are never logged; --enable-log-requests logs prompts."},
    {"--enable-log-deltas", Kind::kSwitch, "True", Effect::kNone, "Outputs are never logged."},
    {"--log-error-stack", Kind::kSwitch, "False", Effect::kNone, "There are no stack traces."},
    {"--tokens-only", Kind::kSwitch, "False", Effect::kNone, "Text and token ids are both served."},
    {"--enable-scale-out", Kind::kSwitch, "False", Effect::kRefused,
     "One process serves the model."},
    {"--fingerprint-mode", Kind::kString, "", Effect::kUsed,
     "What system_fingerprint shows.",
     "full|hash|custom|none"},
    {"--fingerprint-value", Kind::kString, "", Effect::kUsed,
     "The system_fingerprint of --fingerprint-mode custom."},
};

constexpr OptionSpec kServe[] = {
    {"--headless", Kind::kSwitch, "False", Effect::kUsed,
     "With --nnodes, on nodes other than 0: it has no API, which holds without the flag, too."},
    {"--api-server-count -asc", Kind::kInt, "", Effect::kNone,
     "One process serves the model; its I/O threads hold thousands of streams."},
    {"--config", Kind::kString, "", Effect::kUsed,
     "YAML file with flags (name: value); the command line wins."},
    {"--grpc", Kind::kSwitch, "False", Effect::kRefused, "There is no gRPC server."},
};

}  // namespace

std::span<const OptionGroup> FrontendOptionGroups() {
  static constexpr OptionGroup kGroups[] = {
      {"Frontend", "The HTTP server.", kFrontend},
      {"Serve", "Of serve alone.", kServe},
  };
  return kGroups;
}

}  // namespace tiercel::options
