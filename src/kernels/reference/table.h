// The kernel table of the scalar reference, which runs on every CPU.
#pragma once

#include "kernels/ops.h"

namespace tiercel::kernels::reference {

const KernelTable& Table();

}  // namespace tiercel::kernels::reference
