// tiercel health: whether a server serves, as an exit code, for images and machines without curl.
#include <cstdio>
#include <string>

#include "base/environ.h"
#include "net/http_client.h"
#include "tools/command.h"
#include "tools/commands.h"

namespace tiercel::tools {
namespace {

constexpr OptionSpec kHealthOptions[] = {
    {"--url", Kind::kString, "http://127.0.0.1:8000", Effect::kUsed,
     "Where the server is, without /v1."},
};

const OptionTable& HealthTable() {
  static const OptionTable table({{"options", "Of tiercel health.", kHealthOptions}});
  return table;
}

constexpr CommandHelp kHealthHelp = {
    "tiercel health [options]",
    "Asks a server for /health: exit code 0 if it serves, 1 and one line if it does not, within a few "
    "seconds.",
    ""};

// Who asks has a limit of its own on the time, and the kind of Docker is 30 s.
constexpr double kTimeoutSeconds = 5;

}  // namespace

CommandText DescribeHealth() { return {kHealthHelp, HealthTable()}; }

int RunHealth(const std::vector<std::string>& words) {
  const auto options = ParseOptions(HealthTable(), words, 0);
  if (!options) return UsageError(kHealthHelp, "tiercel health", options.error().message());
  if (options->help_wanted()) {
    std::fputs(RenderHelp(HealthTable(), kHealthHelp, "all").c_str(), stdout);
    return kExitOk;
  }
  std::string url = options->String("url");
  while (url.ends_with('/')) url.pop_back();
  url += "/health";
  net::HttpClientOptions http = net::HttpClientOptions::FromEnviron(ReadEnviron());
  http.connect_timeout_s = http.stall_timeout_s = kTimeoutSeconds;
  const auto response = net::HttpClient(http).Get(url);
  if (response && response->status == 200) return kExitOk;
  std::fprintf(stderr, "tiercel health: %s: %s\n", url.c_str(),
               response ? fmt::format("HTTP {}", response->status).c_str()
                        : response.error().message().c_str());
  return kExitFailure;
}

}  // namespace tiercel::tools
