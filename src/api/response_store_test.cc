#include "api/response_store.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace tiercel::api {
namespace {

class FakeRun final : public ResponseRun {
 public:
  explicit FakeRun(int* ended) : ended_(ended) {}
  ~FakeRun() override { ++*ended_; }
  std::string Body() const override { return "runs"; }
  std::string CancelledBody() const override { return "cancelled"; }
  size_t bytes() const override { return size; }

  size_t size = 10;

 private:
  int* ended_;
};

std::shared_ptr<const std::string> Input(std::string text = "[]") {
  return std::make_shared<const std::string>(std::move(text));
}

KeptResponse Ended(size_t bytes) { return {std::string(bytes - 2, 'b'), Input(), nullptr, nullptr}; }

TEST(ResponseStore, TheOldestGoFirst) {
  ResponseStore store({.responses = 3, .bytes = 1000, .response_bytes = 500});
  for (const char* id : {"a", "b", "c"}) EXPECT_TRUE(store.Put(id, Ended(10)).ok());
  EXPECT_NE(store.Find("a"), nullptr);
  EXPECT_TRUE(store.Put("d", Ended(10)).ok());
  EXPECT_EQ(store.Find("a"), nullptr);
  for (const char* id : {"b", "c", "d"}) EXPECT_NE(store.Find(id), nullptr) << id;
  EXPECT_TRUE(store.Put("b", Ended(11)).ok());  // in place of the first one, and as the newest
  EXPECT_TRUE(store.Put("e", Ended(10)).ok());
  EXPECT_EQ(store.Find("c"), nullptr);
  EXPECT_EQ(store.Find("b")->body.size(), 9u);
  EXPECT_EQ(store.size(), std::pair(size_t{3}, size_t{31}));
}

TEST(ResponseStore, BytesAreBoundedForAllAndForOne) {
  ResponseStore store({.responses = 100, .bytes = 1000, .response_bytes = 500});
  EXPECT_EQ(store.Put("large", Ended(501)).code(), StatusCode::kInvalidArgument);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_TRUE(store.Put(std::to_string(i), Ended(2 + static_cast<size_t>(i % 499))).ok());
    EXPECT_LE(store.size().second, 1000u);
    EXPECT_NE(store.Find(std::to_string(i)), nullptr);
  }
}

TEST(ResponseStore, OneThatRunsStaysUntilItEndsOrIsCancelledOrRemoved) {
  ResponseStore store({.responses = 3, .bytes = 1000, .response_bytes = 500});
  int ended = 0;
  std::vector<const ResponseRun*> runs;
  for (const char* id : {"a", "b", "c"}) {
    auto run = std::make_shared<FakeRun>(&ended);
    runs.push_back(run.get());
    EXPECT_TRUE(store.Put(id, {"", Input(), std::move(run), nullptr}).ok());
  }
  EXPECT_EQ(store.Put("d", Ended(10)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(store.Put("a", Ended(10)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ended, 0);
  EXPECT_TRUE(store.Finish("a", runs[0], "done", nullptr));
  EXPECT_EQ(ended, 1);
  EXPECT_EQ(store.Find("a")->body, "done");
  EXPECT_EQ(*store.Find("a")->input, "[]");
  EXPECT_EQ(store.Cancel("a"), nullptr);
  EXPECT_EQ(store.Cancel("b")->body, "cancelled");
  EXPECT_EQ(ended, 2);
  EXPECT_EQ(store.Cancel("b"), nullptr);
  EXPECT_TRUE(store.Finish("b", runs[1], "too late", nullptr));
  EXPECT_EQ(store.Find("b")->body, "cancelled");
  // Of a run whose id another one has by now.
  EXPECT_TRUE(store.Finish("c", runs[0], "not mine", nullptr));
  EXPECT_FALSE(store.Find("c")->ended());
  EXPECT_TRUE(store.Remove("c"));
  EXPECT_FALSE(store.Remove("c"));
  EXPECT_EQ(ended, 3);
  EXPECT_TRUE(store.Put("e", {"", Input(), std::make_shared<FakeRun>(&ended), nullptr}).ok());
  store.Close();
  EXPECT_EQ(ended, 4);
  EXPECT_EQ(store.size(), std::pair(size_t{0}, size_t{0}));
  EXPECT_EQ(store.Put("f", Ended(10)).code(), StatusCode::kUnavailable);
}

TEST(ResponseStore, WhatRunsMayGrowWithinTheBounds) {
  ResponseStore store({.responses = 9, .bytes = 1000, .response_bytes = 600});
  int ended = 0;
  auto a = std::make_shared<FakeRun>(&ended), b = std::make_shared<FakeRun>(&ended);
  EXPECT_TRUE(store.Put("old", Ended(400)).ok());
  EXPECT_TRUE(store.Put("a", {"", Input(), a, nullptr}).ok());
  EXPECT_TRUE(store.Put("b", {"", Input(), b, nullptr}).ok());
  a->size = 500;
  EXPECT_TRUE(store.Grow("a", a.get()));
  EXPECT_NE(store.Find("old"), nullptr);
  b->size = 400;
  EXPECT_TRUE(store.Grow("b", b.get()));
  EXPECT_EQ(store.Find("old"), nullptr);
  EXPECT_EQ(store.size().second, 904u);
  a->size = 600;
  EXPECT_FALSE(store.Grow("a", a.get()));  // of one
  b->size = 500;
  EXPECT_FALSE(store.Grow("b", b.get()));  // of all
  EXPECT_FALSE(store.Finish("b", b.get(), std::string(599, 'x'), nullptr));
  EXPECT_FALSE(store.Find("b")->ended());
  EXPECT_TRUE(store.Finish("b", b.get(), "failed", nullptr));
  EXPECT_TRUE(store.Finish("a", a.get(), std::string(500, 'x'), nullptr));
  EXPECT_EQ(store.size(), std::pair(size_t{2}, size_t{510}));
}

std::string NumberedEvent(int i) { return "data: " + std::to_string(i) + "\n\n"; }

TEST(ResponseEvents, AreReadInPiecesFromAnyNumberOn) {
  ResponseEvents events;
  std::string all;
  for (int i = 0; i < 10; ++i) all += NumberedEvent(i);
  events.Append(all.substr(0, NumberedEvent(0).size() * 3));
  std::string out;
  int64_t next = 5;  // not there yet
  events.Show();
  EXPECT_TRUE(events.Read(1000, &next, &out));
  EXPECT_EQ(out, "");
  events.Append(all.substr(NumberedEvent(0).size() * 3));
  EXPECT_TRUE(events.Read(1000, &next, &out));
  EXPECT_EQ(out, "");  // not shown yet
  events.Show();
  for (const int64_t from : {0, 5, 9, 10, 11}) {
    for (const size_t most : {1, 15, 1000}) {
      std::string read;
      next = from;
      for (;;) {
        std::string piece;
        EXPECT_TRUE(events.Read(most, &next, &piece));
        EXPECT_LT(piece.size(), most + NumberedEvent(0).size());
        if (piece.empty()) break;
        read += piece;
      }
      EXPECT_EQ(read, all.substr(std::min(all.size(), NumberedEvent(0).size() * static_cast<size_t>(from))));
    }
  }
  events.Close();
  next = 9;
  out.clear();
  EXPECT_FALSE(events.Read(1000, &next, &out));
  EXPECT_EQ(out, NumberedEvent(9));
}

TEST(ResponseEvents, WatchersReadAllWhileTheyCome) {
  struct Reader final : ResponseEvents::Watcher {
    explicit Reader(const ResponseEvents& all) : events(all) {}
    void OnMore() override { open = events.Read(100, &next, &text); }
    const ResponseEvents& events;
    int64_t next = 0;
    std::string text;
    bool open = true;
  };
  ResponseEvents events;
  const auto reader = std::make_shared<Reader>(events);
  auto gone = std::make_shared<Reader>(events);
  events.Watch(reader);
  events.Watch(gone);
  gone.reset();
  std::thread writer([&] {
    for (int i = 0; i < 5; ++i) {
      events.Append(NumberedEvent(i));
      events.Show();
    }
    events.Close();
  });
  writer.join();
  EXPECT_EQ(reader->text.size(), 5 * NumberedEvent(0).size());
  EXPECT_FALSE(reader->open);
}

}  // namespace
}  // namespace tiercel::api
