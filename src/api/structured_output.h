// What a request's answer must obey: `response_format`, `structured_outputs`, and tools that must be
// called, each as one grammar.
#pragma once

#include <optional>

#include "api/errors.h"
#include "api/fields.h"
#include "api/options.h"
#include "text/grammar.h"

namespace tiercel::api {

using MaybeGrammar = std::optional<text::GrammarSource>;

// Of the two fields; at most one kind may be given. Faults of a schema itself are found when it is
// compiled.
Result<MaybeGrammar> ReadStructuredOutput(Fields& fields, const ApiOptions& options);

// `tools` have been checked: each has a function with a name.
// One or more calls of them in the form of Hermes (text/tool_parser.h), or just one. `name`: of that
// function alone; empty: of any.
text::GrammarSource ToolCallGrammar(const Json& tools, std::string_view name, bool several,
                                    const ApiOptions& options);
// Any text, in which calls of `tools` obey their parameters; nullopt if no tool is `strict`.
MaybeGrammar StrictToolGrammar(const Json& tools, const ApiOptions& options);

}  // namespace tiercel::api
