// The program tiercel, as a library finds it that was not told where it is.
#pragma once

#include <string>

#include "base/status.h"

namespace tiercel::capi {

// Beside this library, where they are installed, or in the PATH.
Expected<std::string> FindProgram();

}  // namespace tiercel::capi
