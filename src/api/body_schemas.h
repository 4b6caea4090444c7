// What the bodies of requests may hold, for the OpenAPI document and the page of it: the fields
// that the readers of this folder know, as this server with its model and its flags takes them.
// tests/http/test_openapi.py holds them against the readers, field by field and bound by bound.
#pragma once

#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "api/options.h"
#include "api/value_schema.h"

namespace tiercel::api {

struct BodySchema {
  std::string_view name;  // of the document's components: one name, one schema
  std::vector<FieldSchema> fields;
};

// What may be posted to one path: one or more forms of its body.
using BodyForms = std::vector<BodySchema>;
using BodyFormsMaker = BodyForms (*)(const ModelInfo& model, const ApiOptions& options);

BodyForms ChatForms(const ModelInfo& model, const ApiOptions& options);
BodyForms ChatBatchForms(const ModelInfo& model, const ApiOptions& options);
BodyForms CompletionForms(const ModelInfo& model, const ApiOptions& options);
BodyForms InvocationForms(const ModelInfo& model, const ApiOptions& options);
BodyForms ResponsesForms(const ModelInfo& model, const ApiOptions& options);
BodyForms MessagesForms(const ModelInfo& model, const ApiOptions& options);
BodyForms CountTokensForms(const ModelInfo& model, const ApiOptions& options);
BodyForms TokenizeForms(const ModelInfo& model, const ApiOptions& options);
BodyForms DetokenizeForms(const ModelInfo& model, const ApiOptions& options);

BodyForms EmbeddingForms(const ModelInfo& model, const ApiOptions& options);
BodyForms PoolingForms(const ModelInfo& model, const ApiOptions& options);
BodyForms ClassifyForms(const ModelInfo& model, const ApiOptions& options);
BodyForms ScoreForms(const ModelInfo& model, const ApiOptions& options);
BodyForms RerankForms(const ModelInfo& model, const ApiOptions& options);

// Pieces of them.
using FieldSchemas = std::vector<FieldSchema>;
inline constexpr std::string_view kModelMeaning =
    "One of the server's names; the first one where it is left out.";
inline constexpr std::string_view kNoEffect = "Understood, without effect here.";
inline constexpr std::string_view kNotOffered = "Refused.";
FieldSchemas Joined(std::initializer_list<FieldSchemas> pieces);
// The fields of these names, in their own order.
FieldSchemas Picked(const FieldSchemas& fields, std::span<const std::string_view> names);
FieldSchemas BaseFieldSchemas(const ModelInfo& model, const ApiOptions& options);
// A conversation and what shapes its prompt.
FieldSchemas ChatInputSchemas(const ApiOptions& options);
ValueSchema PromptsSchema(const ModelInfo& model, const ApiOptions& options);
ValueSchema ContentSchema();  // of a message: a text, or a list of texts in parts
ValueSchema TokenLimitSchema(const ModelInfo& model);

}  // namespace tiercel::api
