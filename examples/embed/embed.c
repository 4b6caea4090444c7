/* embed MODEL PROMPT [FLAG…]: prints how the model goes on, piece by piece; then the same again in
 * one call, and a chat. FLAGs are those of `tiercel serve`. */
#include <stdio.h>
#include <stdlib.h>
#include <tiercel.h>

static void check(tiercel_status status) {
  if (status == TIERCEL_OK) return;
  fprintf(stderr, "embed: %s\n", tiercel_last_error());
  exit(status == TIERCEL_INVALID_ARGUMENT ? 2 : 1);
}

static tiercel_choice first_choice(tiercel_request* request) {
  tiercel_choice choice = {.struct_size = sizeof(choice)};
  check(tiercel_request_choice(request, 0, &choice));
  return choice;
}

static int print_news(void* user, tiercel_request* request, const tiercel_output* output) {
  size_t* num_tokens = user;
  tiercel_choice choice = first_choice(request);
  *num_tokens += choice.num_token_ids;
  fwrite(choice.text, 1, choice.text_size, stdout);
  fflush(stdout);
  if (output->done) printf("\n[%zu tokens, %s]\n", *num_tokens, choice.finish_reason);
  return 0; /* not 0: enough, cancel it */
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: embed MODEL PROMPT [FLAG...]\n");
    return 2;
  }
  if (tiercel_abi_version() != TIERCEL_ABI_VERSION) {
    fprintf(stderr, "embed: libtiercel has ABI %u, expected %u\n", tiercel_abi_version(),
            TIERCEL_ABI_VERSION);
    return 1;
  }

  tiercel_engine_options options = {
      .struct_size = sizeof(options),
      .model = argv[1],
      .arguments = (const char* const*)argv + 3,
      .num_arguments = (size_t)argc - 3,
  };
  tiercel_engine* engine;
  check(tiercel_engine_create(&options, &engine));

  tiercel_request_options completion = {
      .struct_size = sizeof(completion),
      .body = "{\"max_tokens\": 16, \"temperature\": 0}",
      .prompt = argv[2],
  };
  tiercel_request* request;
  size_t num_tokens = 0;
  check(tiercel_request_create(engine, &completion, &request));
  check(tiercel_request_stream(request, print_news, &num_tokens));
  tiercel_request_destroy(request);

  tiercel_output output = {.struct_size = sizeof(output)};
  check(tiercel_generate(engine, &completion, &request, &output));
  tiercel_choice whole = first_choice(request);
  for (size_t i = 0; i < whole.num_token_ids; ++i)
    printf("%s%d", i == 0 ? "" : " ", whole.token_ids[i]);
  printf("\n");
  tiercel_request_destroy(request);

  tiercel_request_options chat = {
      .struct_size = sizeof(chat),
      .endpoint = "/v1/chat/completions",
      .body =
          "{\"max_tokens\": 16, \"temperature\": 0,"
          " \"messages\": [{\"role\": \"user\", \"content\": \"What is the capital of France?\"}]}",
  };
  check(tiercel_generate(engine, &chat, &request, &output));
  whole = first_choice(request);
  fwrite(whole.text, 1, whole.text_size, stdout);
  printf("\n");
  tiercel_request_destroy(request);

  tiercel_engine_destroy(engine);
  return 0;
}
