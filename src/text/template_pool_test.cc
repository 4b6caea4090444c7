#include "text/template_pool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "text/chat_template.h"

namespace tiercel::text {
namespace {

namespace fs = std::filesystem;

std::shared_ptr<TemplatePool> NewPool(TemplatePool::Options options = {}) {
  options.executable = TIERCEL_TEMPLATE_WORKER;
  return std::make_shared<TemplatePool>(options);
}

Expected<std::string> Render(TemplatePool& pool, std::string_view source,
                             std::string_view values = "{}") {
  return pool.Run({.kind = TemplateJob::Kind::kRender, .source = source, .values = values});
}

// State letter and parent of a process from /proc/PID/stat; nothing if it is gone.
std::optional<std::pair<char, pid_t>> ProcessState(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  std::istringstream rest(line.substr(line.rfind(')') + 1));
  char state = 0;
  pid_t parent = 0;
  rest >> state >> parent;
  return std::pair(state, parent);
}

std::set<pid_t> ChildrenOf(pid_t parent) {
  std::set<pid_t> children;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    const auto state = pid > 0 ? ProcessState(pid) : std::nullopt;
    if (state && state->second == parent && state->first != 'Z') children.insert(pid);
  }
  return children;
}

// The one worker of `parent`, as soon as there is one.
pid_t WaitForWorker(pid_t parent) {
  for (int i = 0; i < 2000; ++i) {
    const std::set<pid_t> children = ChildrenOf(parent);
    if (!children.empty()) return *children.begin();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return -1;
}

bool WaitUntil(const std::function<bool()>& done) {
  for (int i = 0; i < 2000; ++i) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

// Takes all of the time that it may, and little memory.
constexpr char kSlow[] =
    "{% set s = 'a' * 4000000 %}{% for i in range(90000) %}{% for j in range(90000) %}"
    "{% if s.replace('a', 'b') == 'c' %}{% endif %}{% endfor %}{% endfor %}";

TEST(TemplatePool, SaysWhatATemplateHasExceeded) {
#ifdef TIERCEL_SANITIZED
  GTEST_SKIP() << "sanitizers take memory and time of their own";
#endif
  const auto pool = NewPool({.timeout_s = 600});  // also where a neighbor takes nearly all time
  const std::pair<std::string, std::string> cases[] = {
      {kSlow, "chat template: took more than the 3.0 s of processor time that it may"},
      {"{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
       "chat template: used more than the 64 MiB of memory that it may"},
      {"{% set n = namespace(x=0) %}{% for i in range(99999) %}{% for j in range(99999) %}"
       "{% set n.x = [n.x] %}{% endfor %}{% endfor %}",
       ""},
      {"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
       "chat template: too many steps"},
      {"{% for i in range(20000) %}{{ 'x' * 1000 }}{% endfor %}",
       "chat template: wrote 20000000 bytes, expected at most 16777"},
  };
  for (const auto& [source, message] : cases) {
    const auto text = Render(*pool, source);
    ASSERT_FALSE(text) << source;
    EXPECT_EQ(text.error().code(), StatusCode::kInvalidArgument) << text.error();
    EXPECT_NE(text.error().message().find(message), std::string::npos) << text.error();
    const auto next = Render(*pool, "{{ 1 + 1 }}");
    ASSERT_TRUE(next) << next.error();
    EXPECT_EQ(*next, "2");
  }
}

TEST(TemplatePool, AWorkerThatIsKilledCostsItsOwnJob) {
#ifdef TIERCEL_SANITIZED
  GTEST_SKIP() << "a slow job ends for want of memory first";
#endif
  const auto pool = NewPool();
  Expected<std::string> text = "";
  std::thread render([&] { text = Render(*pool, kSlow); });
  const pid_t worker = WaitForWorker(::getpid());
  ASSERT_GT(worker, 0);
  // Only a job takes time in a process that has just been started.
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ::kill(worker, SIGKILL);
  render.join();
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code(), StatusCode::kUnavailable) << text.error();
  EXPECT_NE(text.error().message().find("signal 9"), std::string::npos) << text.error();
  EXPECT_EQ(Render(*pool, "next"), "next");
}

TEST(TemplatePool, AWorkerThatIsKilledWhileItWaitsCostsNothing) {
  const auto pool = NewPool();
  ASSERT_EQ(Render(*pool, "a"), "a");
  const pid_t worker = WaitForWorker(::getpid());
  ::kill(worker, SIGKILL);
  ASSERT_TRUE(WaitUntil([&] { return !ChildrenOf(::getpid()).contains(worker); }));
  EXPECT_EQ(Render(*pool, "b"), "b");
}

TEST(TemplatePool, AWorkerThatHangsIsEnded) {
  const auto pool = NewPool({.timeout_s = 5});
  ASSERT_EQ(Render(*pool, "a"), "a");
  const pid_t worker = WaitForWorker(::getpid());
  // It has said that it is ready for the next; one that hangs before that is replaced.
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ::kill(worker, SIGSTOP);
  const auto text = Render(*pool, "b");
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code(), StatusCode::kUnavailable);
  EXPECT_EQ(text.error().message(),
            "chat template: its process has not answered for 5 s; try again");
  EXPECT_FALSE(ProcessState(worker));
}

TEST(TemplatePool, OnlyThePoolStopsAWorker) {
  const auto pool = NewPool();
  ASSERT_EQ(Render(*pool, "a"), "a");
  const pid_t worker = WaitForWorker(::getpid());
  // SIGIO may come late, of input that was read already.
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGIO}) ::kill(worker, signal);
  EXPECT_EQ(Render(*pool, "b"), "b");
  EXPECT_EQ(ChildrenOf(::getpid()), std::set<pid_t>{worker});
  EXPECT_NE(::getpgid(worker), ::getpgid(0));
}

TEST(TemplatePool, ManyThreadsShareItsWorkers) {
  const auto pool = NewPool({.max_workers = 3});
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 64; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        const std::string values = fmt::format(R"({{"x": "{}-{}"}})", t, i);
        const auto text = Render(*pool, "{{ x }}", values);
        if (!text || *text != fmt::format("{}-{}", t, i)) ++wrong;
      }
    });
  }
  size_t most = 0;
  for (int i = 0; i < 5; ++i) most = std::max(most, ChildrenOf(::getpid()).size());
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(most, 3u);
}

TEST(TemplatePool, AWorkerHasNoFilesButItsSocket) {
  // One that somebody forgot to close on exec.
  const int inherited = ::open("/dev/null", O_RDONLY);
  ASSERT_GE(inherited, 0);
  const auto pool = NewPool();
  ::setenv("VLLM_API_KEY", "secret", 1);
  ASSERT_EQ(Render(*pool, "a"), "a");
  ::unsetenv("VLLM_API_KEY");
  const pid_t worker = WaitForWorker(::getpid());
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/fd", worker))) {
    files.insert(entry.path().filename().string() + " " +
                 fs::read_symlink(entry.path()).string().substr(0, 7));
  }
  ::close(inherited);
  EXPECT_EQ(files,
            (std::set<std::string>{"0 /dev/nu", "1 /dev/nu", "2 /dev/nu", "3 socket:"}));
  std::ifstream environment(fmt::format("/proc/{}/environ", worker));
  const std::string variables((std::istreambuf_iterator<char>(environment)), {});
  EXPECT_EQ(variables.find("secret"), std::string::npos) << variables;
}

TEST(TemplatePool, WorkersEndWithThePool) {
  auto pool = NewPool();
  ASSERT_EQ(Render(*pool, "a"), "a");
  ASSERT_EQ(ChildrenOf(::getpid()).size(), 1u);
  pool.reset();
  EXPECT_TRUE(ChildrenOf(::getpid()).empty());
}

// Also in the middle of a job.
TEST(TemplatePool, WorkersEndWithAProcessThatIsKilled) {
  for (const char* source : {"idle", kSlow}) {
    const pid_t server = ::fork();
    if (server == 0) {
      const auto pool = NewPool();
      (void)Render(*pool, source);
      ::pause();
      ::_exit(0);
    }
    const pid_t worker = WaitForWorker(server);
    ASSERT_GT(worker, 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    ::kill(server, SIGKILL);
    ::waitpid(server, nullptr, 0);
    EXPECT_TRUE(WaitUntil([&] {
      const auto state = ProcessState(worker);
      return !state || state->first == 'Z';
    })) << source;
  }
}

// Values that refer to themselves are never freed.
TEST(TemplatePool, WhatAJobLeavesBehindEndsWithItsWorker) {
  const auto pool = NewPool();
  for (int i = 0; i < 100; ++i) {
    const auto text = Render(*pool,
                             "{% for i in range(500) %}{% set n = namespace() %}{% set n.me = n %}"
                             "{% set n.big = 'x' * 10000 %}{% endfor %}ok");  // 5 MB
    ASSERT_TRUE(text) << text.error();
    EXPECT_EQ(*text, "ok");
    const std::set<pid_t> workers = ChildrenOf(::getpid());
    EXPECT_LE(workers.size(), 1u);
    for (const pid_t worker : workers) {
      std::ifstream statm(fmt::format("/proc/{}/statm", worker));
      int64_t size = 0, pages = 0;
      statm >> size >> pages;
      EXPECT_LT(pages * ::sysconf(_SC_PAGESIZE), 200 << 20);
    }
  }
}

TEST(TemplatePool, NeedsNoReserveOfMemory) {
#ifdef TIERCEL_SANITIZED
  GTEST_SKIP() << "sanitizers reserve addresses of their own";
#else
  const pid_t child = ::fork();
  if (child == 0) {
    std::ifstream statm("/proc/self/statm");
    rlim_t pages = 0;
    statm >> pages;
    const rlim_t bytes = pages * ::sysconf(_SC_PAGESIZE) + (rlim_t{128} << 20);
    const rlimit limit{bytes, bytes};
    ::setrlimit(RLIMIT_AS, &limit);
    const auto pool = NewPool();
    const bool renders = Render(*pool, "{{ 'a' * 3 }}") == "aaa";
    const bool bounded = !Render(*pool, "{{ ('a' * 1000000000) | length }}");
    ::_exit(renders && bounded && Render(*pool, "b") == "b" ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
#endif
}

TEST(TemplatePool, NamesAProgramThatIsNoWorker) {
  for (const std::string program : {"/nowhere/tiercel", "/bin/true"}) {
    TemplatePool pool({.executable = program});
    for (int i = 0; i < 9; ++i) {  // more often than there are workers
      const auto text = Render(pool, "a");
      ASSERT_FALSE(text);
      EXPECT_EQ(text.error().code(), StatusCode::kUnavailable);
      EXPECT_NE(text.error().message().find(program), std::string::npos) << text.error();
    }
  }
}

TEST(TemplatePool, AJobAsLargeAsARequestMayBeFits) {
  const auto pool = NewPool();
  std::string values = R"({"l":[0)";
  while (values.size() < size_t{64} << 20) values += ",0";
  values += "]}";
  const auto text = Render(*pool, "{{ l | length }}", values);
  ASSERT_TRUE(text) << text.error();
  EXPECT_EQ(*text, "33554430");
}

}  // namespace
}  // namespace tiercel::text
