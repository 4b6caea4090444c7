//! Tokenizers and chat templates behind one C header (src/text/ffi.h).
//!
//! Every exported function catches panics: a fault in a library becomes an error text, never an
//! unwinding through C++.

mod bytes;
mod chat_template;
mod given_values;
mod gguf_vocab;
mod grammar;
mod jinja_filters;
mod printf;
mod python_operators;
mod python_strings;
mod schema_numbers;
mod tokenizer;
