// GBNF, the grammars of llama.cpp and xgrammar ("root ::= …"), as Lark for text/grammar.h.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace tiercel::text {

// Whether a grammar is written in GBNF rather than in Lark.
bool IsGbnf(std::string_view grammar);

// InvalidArgument names the line. Literals and character classes become lexemes, and a lexer takes the
// longest: where one literal begins another, less may be allowed than GBNF does, never more.
Expected<std::string> GbnfToLark(std::string_view gbnf);

}  // namespace tiercel::text
