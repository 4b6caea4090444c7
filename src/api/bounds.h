// Bounds of one request body: what its lists and strings may hold, checked before any of it is
// copied. They are far above what clients send, and keep the memory and the time that one body can
// take small. docs/limits.md lists them. Bounds that have a flag or a variable stand in options.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tiercel::api {

// 8 million tokens of usual text; read in 40 to 120 ms.
inline constexpr size_t kMaxJsonBytes = size_t{32} << 20;
inline constexpr int kMaxJsonDepth = 64;
// A value takes sizeof(Json) = 40 bytes, a member of an object 72 and counts twice; a growing
// vector holds its values twice for a moment: at most 40 MiB · (1 + 2) for a body of "[0,0,0,…".
// As token ids: 25 prompts of 40,960 tokens.
inline constexpr int64_t kMaxJsonValues = int64_t{1} << 20;
inline constexpr int64_t kMaxObjectKeys = int64_t{1} << 16;

// Faults of a body that are told; checking stops there.
inline constexpr size_t kMaxFaults = 20;

inline constexpr size_t kMaxStopBytes = 4096;   // of one stop string
inline constexpr size_t kMaxStopTokens = 1024;  // each is compared with every sampled token
// Each bad word is tokenized twice (about 1 µs a byte).
inline constexpr size_t kMaxBadWords = 1024;
inline constexpr size_t kMaxBadWordsBytes = size_t{32} << 10;  // all together
inline constexpr size_t kMaxLogitBias = 16'384;
inline constexpr size_t kMaxAllowedTokens = size_t{1} << 18;  // above every vocabulary

inline constexpr size_t kMaxMessages = 32'768;
inline constexpr size_t kMaxContentParts = 16'384;  // of one message
inline constexpr size_t kMaxTools = 4096;           // also documents, and tool_calls of one message
inline constexpr size_t kMaxTemplateKwargs = 256;
inline constexpr size_t kMaxIncluded = 64;  // of `include` of a response
inline constexpr size_t kMaxTemplateBytes = size_t{1} << 20;  // of a request's own chat_template
inline constexpr size_t kMaxRoleBytes = 256;                  // also names and ids in messages
// Of the prompts in an answer, with echo or return_token_ids, in all of its samples together.
inline constexpr int64_t kMaxRepeatedPromptBytes = int64_t{64} << 20;
// Vectors and labels of one body, all together: as JSON about 12 bytes each.
inline constexpr int64_t kMaxPooledValues = int64_t{8} << 20;
// What a template is rendered from, as JSON: 4 million tokens of usual text. The rendering itself
// is bounded by what fits into the model's length.
inline constexpr size_t kMaxChatInputBytes = size_t{16} << 20;

}  // namespace tiercel::api
