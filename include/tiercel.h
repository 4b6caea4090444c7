/* libtiercel: a model in the caller's process that answers requests, without a server
 * (docs/library.md).
 *
 * A request is the body of an HTTP request, and is answered with the tokens and the words that
 * `tiercel serve` has for it. All functions may be called from any thread. An engine serves any
 * number of threads; a request is one thread's at a time, but for tiercel_request_cancel.
 *
 * Strings are UTF-8 and end with a NUL. What a call returns by pointer belongs to the object that
 * it was asked of, and is valid until the next call on that object but cancel.
 *
 * Structs begin with their size, which the caller sets to sizeof. So a program that was built with
 * an older header runs with a newer library of the same TIERCEL_ABI_VERSION. Fields that a library
 * does not know must be 0. */
#ifndef TIERCEL_H
#define TIERCEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TIERCEL_API __attribute__((visibility("default")))

/* Changes when a program must be built anew; it is the number in libtiercel.so.N, too. */
#define TIERCEL_ABI_VERSION 1
/* TIERCEL_ABI_VERSION of the library that runs. */
TIERCEL_API uint32_t tiercel_abi_version(void);
/* "0.1.0", of the library that runs. */
TIERCEL_API const char* tiercel_version(void);

typedef enum tiercel_status {
  TIERCEL_OK = 0,
  TIERCEL_INVALID_ARGUMENT = 1, /* the caller's fault: an option, a file, a field of a body */
  TIERCEL_FAILED = 2, /* the machine or the engine cannot do it: memory, a missing program */
  TIERCEL_CANCELLED = 3
} tiercel_status;

/* One line on why the last call of this thread that did not return TIERCEL_OK did not, in the words
 * of the server or its command line. Valid until this thread's next such call. */
TIERCEL_API const char* tiercel_last_error(void);

/* ---- Engines */

typedef struct tiercel_engine tiercel_engine;

typedef struct tiercel_engine_options {
  size_t struct_size;
  const char* model; /* a folder, a .gguf file, or a model's id on the hub */
  /* Words of `tiercel serve`, e.g. "--max-model-len", "8192". Those of its network do nothing. */
  const char* const* arguments;
  size_t num_arguments;
  /* The program tiercel, which renders chat templates in a process of its own. NULL: the one that
   * is installed with the library, or else the PATH's. */
  const char* program;
} tiercel_engine_options;

/* Loads a model, which takes seconds. */
TIERCEL_API tiercel_status tiercel_engine_create(const tiercel_engine_options* options,
                                                 tiercel_engine** engine);
/* NULL is fine. Requests that are left go on; the memory is free when the last of them is
 * destroyed. */
TIERCEL_API void tiercel_engine_destroy(tiercel_engine* engine);

/* ---- Requests */

typedef struct tiercel_request tiercel_request;

typedef struct tiercel_request_options {
  size_t struct_size;
  /* "/v1/completions" (or NULL), "/v1/chat/completions", "/v1/embeddings", …: whose body it is. */
  const char* endpoint;
  /* A JSON object, e.g. {"max_tokens": 16, "temperature": 0}; NULL: {}. "model" may be left out,
   * "stream" must be. What it leaves out has the default of the API, whatever the model's
   * generation_config.json says. */
  const char* body;
  /* One of these, or neither, stands for "prompt" of the body. */
  const char* prompt;
  const int32_t* prompt_token_ids;
  size_t num_prompt_token_ids;
} tiercel_request_options;

/* What is new of a request since the call before. */
typedef struct tiercel_output {
  size_t struct_size;
  int32_t done;       /* 1: this is the last of it */
  size_t num_choices; /* "n" of the body; 0 for a model that pools: tiercel_request_choice has what
                         they have got */
  const int32_t* prompt_token_ids; /* all of the (first) prompt, each time */
  size_t num_prompt_token_ids;
  int64_t cached_tokens; /* of the prompt that were computed before; -1: not known yet */
  const char* body;      /* of a model that pools, when done: what a server answers; else NULL */
  size_t body_size;
} tiercel_output;

typedef struct tiercel_choice {
  size_t struct_size;
  const char* text; /* what is new of it; may hold NULs, as any text */
  size_t text_size;
  const int32_t* token_ids; /* new ones; their text may come later, when it is whole */
  size_t num_token_ids;
  const float* logprobs;     /* of token_ids; NULL unless the body asks for "logprobs" */
  const char* finish_reason; /* NULL while it goes on; "stop", "length", … */
} tiercel_choice;

/* Begins a request. What a server would refuse is refused here. */
TIERCEL_API tiercel_status tiercel_request_create(tiercel_engine* engine,
                                                  const tiercel_request_options* options,
                                                  tiercel_request** request);
/* Cancels what runs. NULL is fine. */
TIERCEL_API void tiercel_request_destroy(tiercel_request* request);

/* Waits for news, at most `seconds` (0: not at all; negative: for ever). Nothing new is TIERCEL_OK,
 * too. */
TIERCEL_API tiercel_status tiercel_request_poll(tiercel_request* request, double seconds,
                                                tiercel_output* output);
/* What choice `index` got with the last poll, or with what polls for the caller: the three calls
 * below. */
TIERCEL_API tiercel_status tiercel_request_choice(tiercel_request* request, size_t index,
                                                  tiercel_choice* choice);
/* A file that is readable while there are news, for a loop that watches many. It is closed with the
 * request. -1: there is none left. */
TIERCEL_API int tiercel_request_fd(tiercel_request* request);
/* Ends it: a poll that waits returns TIERCEL_CANCELLED, as any that comes later. From any thread,
 * while another polls, too. */
TIERCEL_API void tiercel_request_cancel(tiercel_request* request);

/* Called with what is new. Not 0: cancel the request. */
typedef int (*tiercel_output_callback)(void* user, tiercel_request* request,
                                       const tiercel_output* output);

/* Polls to the end and calls `callback` on this thread each time that there are news. */
TIERCEL_API tiercel_status tiercel_request_stream(tiercel_request* request,
                                                  tiercel_output_callback callback, void* user);
/* Waits for the end: `output` and tiercel_request_choice have everything that was not polled
 * before. */
TIERCEL_API tiercel_status tiercel_request_wait(tiercel_request* request, tiercel_output* output);
/* tiercel_request_create and tiercel_request_wait. The caller destroys *request, which is NULL on
 * failure. */
TIERCEL_API tiercel_status tiercel_generate(tiercel_engine* engine,
                                            const tiercel_request_options* options,
                                            tiercel_request** request, tiercel_output* output);

#ifdef __cplusplus
}
#endif

#endif /* TIERCEL_H */
