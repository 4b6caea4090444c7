// The routes of responses that are kept: /v1/responses/{response_id} and what stands behind it.
#pragma once

#include "api/response_store.h"
#include "server/router.h"

namespace tiercel::server {

// `store` outlives the router; null: no response is kept, each of the routes answers 404.
void AddKeptResponses(api::ResponseStore* store, Router* router);

}  // namespace tiercel::server
