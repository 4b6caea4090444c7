#include "serving/model_path.h"

#include "serving/progress_bar.h"

namespace tiercel::serving {

Expected<std::string> FindModel(const std::string& model, const hub::HubOptions& options,
                                const Environ& environ) {
  ProgressBar bar("Downloading " + model, true);
  return hub::ResolveModel(model, options, environ,
                           [&](int64_t done, int64_t total) { bar.Update(done, total); });
}

}  // namespace tiercel::serving
