// A worker alone, as the tiercel program is one with the word template-worker. Sanitizers must not turn
// what ends a worker into an exit code, nor look for leaks in what is made to be ended.
#include "text/template_worker.h"

extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1:detect_leaks=0:handle_abort=0:handle_segv=0:handle_sigbus=0";
}
extern "C" const char* __tsan_default_options() {
  return "allocator_may_return_null=1:handle_abort=0:handle_segv=0:handle_sigbus=0";
}

int main() { return tiercel::text::RunTemplateWorker(); }
