// Attention over an INT8 cache: the part of amx::Attention for KvLayout::dtype kI8.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::amx {

void AttentionInt8(const AttentionArgs& args, Share share);
int64_t AttentionInt8ScratchBytes(const AttentionArgs& args);

}  // namespace tiercel::kernels::amx
