#include "server/openapi.h"

#include <algorithm>
#include <set>

#include "api/json_writer.h"
#include "base/ascii_case.h"
#include "server/access.h"

namespace tiercel::server {

extern const std::string_view kDocsHtml;

namespace {

using api::FieldSchema;

constexpr std::string_view kErrorSchemas =
    R"("Error":{"type":"object","required":["error"],"properties":{"error":{"type":"object",)"
    R"("required":["message","type","param","code"],"properties":{"message":{"type":"string"},)"
    R"("type":{"type":"string"},"param":{"type":["string","null"]},"code":{"type":"integer"}}}}},)"
    R"("AnthropicError":{"type":"object","required":["type","error"],"properties":{"type":{"const":"error"},)"
    R"("error":{"type":"object","required":["type","message"],"properties":{"type":{"type":"string"},)"
    R"("message":{"type":"string"}}}}})";

// Of a model that pools, or of one that does not.
std::vector<Operation> Offered(std::span<const Operation> operations, const LoadedModel& model) {
  std::vector<Operation> offered;
  for (const Operation& operation : operations) {
    const api::Endpoint* const endpoint = operation.text.endpoint;
    if (endpoint == nullptr || !api::CheckOffered(*endpoint, model.info))
      offered.push_back(operation);
  }
  return offered;
}

api::BodyForms FormsOf(const Operation& operation, const LoadedModel& model) {
  return operation.text.forms == nullptr ? api::BodyForms()
                                         : operation.text.forms(model.info, model.api);
}

bool NeedsKey(const Operation& operation, const ServerOptions& options) {
  return !options.api_keys.empty() && PathNeedsKey(operation.path);
}

// post_v1_chat_completions
std::string IdOf(const Operation& operation) {
  std::string id = LowerCase(operation.method);
  for (const char c : operation.path) {
    if (c != '{' && c != '}') id += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  }
  return id;
}

class JsonDocument {
 public:
  JsonDocument(const ServerOptions& options, const LoadedModel& model)
      : options_(options), model_(model) {}

  std::string Write(std::span<const Operation> operations) {
    std::string paths;
    std::string_view path;
    for (const Operation& operation : operations) {
      if (operation.path != path) {
        paths += path.empty() ? "" : "},";
        path = operation.path;
        paths += fmt::format(R"("{}":{{)", path);
      } else {
        paths += ',';
      }
      AppendOperation(operation, &paths);
    }
    std::string out = R"({"openapi":"3.1.0","info":{"title":"Tiercel","version":)";
    api::AppendJsonString(&out, options_.version);
    out += '}';
    if (!options_.root_path.empty()) {
      out += R"(,"servers":[{"url":)";
      api::AppendJsonString(&out, options_.root_path);
      out += "}]";
    }
    out += fmt::format(R"(,"paths":{{{}}}}},"components":{{"schemas":{{{}{}}})", paths,
                       kErrorSchemas, schemas_);
    if (!options_.api_keys.empty()) {
      out += R"(,"securitySchemes":{"key":{"type":"http","scheme":"bearer"},)"
             R"("x-api-key":{"type":"apiKey","in":"header","name":"X-Api-Key"}})";
    }
    return out += "}}";
  }

 private:
  void AppendOperation(const Operation& operation, std::string* out) {
    const std::string id = IdOf(operation);
    *out += fmt::format(R"("{}":{{"operationId":"{}","summary":)", id.substr(0, id.find('_')), id);
    api::AppendJsonString(out, operation.text.summary);
    AppendParameters(operation, out);
    const api::BodyForms forms = FormsOf(operation, model_);
    if (!forms.empty()) AppendBody(forms, out);
    if (NeedsKey(operation, options_)) *out += R"(,"security":[{"key":[]},{"x-api-key":[]}])";
    AppendAnswers(operation, forms, out);
    *out += '}';
  }

  void AppendParameters(const Operation& operation, std::string* out) const {
    std::string list;
    const size_t open = operation.path.find('{');
    if (open != std::string_view::npos) {
      const size_t close = operation.path.find('}', open);
      list =
          fmt::format(R"({{"name":"{}","in":"path","required":true,"schema":{{"type":"string"}}}})",
                      operation.path.substr(open + 1, close - open - 1));
    }
    for (const FieldSchema& field : operation.text.query) {
      list += fmt::format(R"({}{{"name":"{}","in":"query","description":)", list.empty() ? "" : ",",
                          field.name);
      api::AppendJsonString(&list, field.meaning);
      list += fmt::format(R"(,"schema":{{{}}}}})", field.value.members());
    }
    if (!list.empty()) *out += fmt::format(R"(,"parameters":[{}])", list);
  }

  void AppendBody(const api::BodyForms& forms, std::string* out) {
    std::string choices;
    for (const api::BodySchema& form : forms) {
      if (named_.insert(form.name).second) {
        schemas_ += fmt::format(R"(,"{}":{})", form.name, api::ObjectSchemaJson(form.fields));
      }
      choices += fmt::format(R"({}{{"$ref":"#/components/schemas/{}"}})",
                             choices.empty() ? "" : ",", form.name);
    }
    if (forms.size() > 1) choices = fmt::format(R"({{"anyOf":[{}]}})", choices);
    *out += fmt::format(
        R"(,"requestBody":{{"required":true,"content":{{"application/json":{{"schema":{}}}}}}})",
        choices);
  }

  void AppendAnswers(const Operation& operation, const api::BodyForms& forms,
                     std::string* out) const {
    *out += R"(,"responses":{"200":{"description":"The answer.")";
    const bool streams = std::any_of(forms.begin(), forms.end(), [](const api::BodySchema& form) {
      return std::any_of(form.fields.begin(), form.fields.end(), [](const FieldSchema& field) {
        return field.name == "stream" && field.value.offered();
      });
    });
    if (!operation.text.answer.empty()) {
      *out += fmt::format(R"(,"content":{{"{}":{{}}{}}})", operation.text.answer,
                          streams ? R"(,"text/event-stream":{})" : "");
    }
    *out += '}';
    if (NeedsKey(operation, options_))
      *out += R"(,"401":{"description":"There is no key, or a wrong one."})";
    *out += R"(,"default":{"description":"Why there is no answer.")";
    if (!operation.text.answer.empty()) {
      *out += fmt::format(
          R"(,"content":{{"application/json":{{"schema":{{"$ref":"#/components/schemas/{}"}}}}}})",
          operation.text.protocol == api::Protocol::kMessages ? "AnthropicError" : "Error");
    }
    *out += "}}";
  }

  const ServerOptions& options_;
  const LoadedModel& model_;
  std::set<std::string_view> named_;  // in schemas_
  std::string schemas_;               // a comma before each
};

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

void AppendFields(const api::FieldSchemas& fields, std::string* html) {
  *html += "<dl>\n";
  for (const FieldSchema& field : fields) {
    *html += fmt::format("<dt><code>{}</code>{} <i>{}", field.name,
                         field.required ? " <b>required</b>" : "", Escaped(field.value.words()));
    if (const std::string& value = field.value.default_json(); !value.empty()) {
      *html += fmt::format("; {} if absent", Escaped(value));
    }
    *html += fmt::format("</i></dt>\n<dd>{}", Escaped(field.meaning));
    if (!field.value.fields().empty()) AppendFields(field.value.fields(), html);
    *html += "</dd>\n";
  }
  *html += "</dl>\n";
}

std::string PageHtml(std::span<const Operation> operations, const ServerOptions& options,
                     const LoadedModel& model) {
  std::string html = fmt::format("<h1>Tiercel {}</h1>\n", Escaped(options.version));
  html +=
      "<p>The routes of this server, for programs: <a href=\"openapi.json\">openapi.json</a>. In "
      "bodies, null is as if "
      "a field were absent; fields that are not known are ignored.</p>\n";
  for (const Operation& operation : operations) {
    html += fmt::format(
        "<details id=\"{}\">\n<summary><b>{}</b> <code>{}</code> <span>{}</span></summary>\n",
        IdOf(operation), operation.method, Escaped(operation.path),
        Escaped(operation.text.summary));
    if (NeedsKey(operation, options))
      html += "<p>Needs the key: <code>Authorization: Bearer …</code></p>\n";
    if (!operation.text.query.empty()) {
      html += "<h2>In the address</h2>\n";
      AppendFields(operation.text.query, &html);
    }
    const api::BodyForms forms = FormsOf(operation, model);
    for (size_t i = 0; i < forms.size(); ++i) {
      html += fmt::format("<h2>{}{}</h2>\n", i == 0 ? "Body: " : "Or: ", forms[i].name);
      AppendFields(forms[i].fields, &html);
    }
    html += "</details>\n";
  }
  std::string page(kDocsHtml);
  constexpr std::string_view kPlace = "<main>\n";
  return page.insert(page.find(kPlace) + kPlace.size(), html);
}

}  // namespace

ApiDocument::ApiDocument(std::span<const Operation> operations, const ServerOptions& options,
                         const LoadedModel& model)
    : json_(JsonDocument(options, model).Write(Offered(operations, model))),
      page_(PageHtml(Offered(operations, model), options, model)) {}

}  // namespace tiercel::server
