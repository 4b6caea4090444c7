// What the kernels ask of the KV cache's blocks.
#pragma once

namespace tiercel::model {

// Attention reads keys and values of this many tokens at once: a block holds a multiple of them.
inline constexpr int kKvBlockMultiple = 32;

}  // namespace tiercel::model
