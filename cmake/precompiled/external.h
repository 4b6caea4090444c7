// External headers that nearly every source includes, parsed once (cmake/TiercelTargets.cmake).
// What only a few need stays out: loading it would cost the others more than it saves. A source
// still includes what it uses.
#pragma once

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <tl/expected.hpp>
#include <unordered_map>
#include <utility>
#include <vector>
