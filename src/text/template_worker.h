// The process in which chat templates are rendered.
//
// A template is a program that someone else has written, and whatever it computes, it can make it
// large: strings and lists that double, repeat or nest. An allocation that fails ends a process that
// runs Rust, and so does a stack that overflows; therefore it is not the server's process. A worker
// has nothing but its socket: no other file, no right to open, write or start anything, memory and
// time bounded for each job. What it exceeds ends it, and text::TemplatePool says how and starts
// another one.
#pragma once

namespace tiercel::text {

// Where a worker finds its socket.
inline constexpr int kTemplateWorkerFd = 3;

// The word that makes the tiercel program a worker.
inline constexpr char kTemplateWorkerCommand[] = "template-worker";

// A worker's main: returns its exit code when the other side has closed the socket, or when what is
// left behind by a job (values that refer to themselves are never freed) is worth a fresh start.
int RunTemplateWorker();

}  // namespace tiercel::text
