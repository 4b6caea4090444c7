// The kernel table of this ISA. Compiled without ISA flags: safe to call anywhere.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::avx2 {

const KernelTable& Table();

}  // namespace tiercel::kernels::avx2
