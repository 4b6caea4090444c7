// A model by path or hub id, with a progress bar while it is downloaded.
#pragma once

#include <string>

#include "hub/hub.h"

namespace tiercel::serving {

// hub::ResolveModel, its progress shown on a terminal.
Expected<std::string> FindModel(const std::string& model, const hub::HubOptions& options,
                                const Environ& environ);

}  // namespace tiercel::serving
