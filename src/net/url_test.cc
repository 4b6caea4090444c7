#include "net/url.h"

#include <gtest/gtest.h>

namespace tiercel::net {
namespace {

TEST(Url, Parts) {
  const auto url = Url::Parse("https://[::1]:8443/a?b#c");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->host, "[::1]");
  EXPECT_EQ(url->port, "8443");
  EXPECT_EQ(url->target, "/a?b");
  EXPECT_EQ(url->Text(), "https://[::1]:8443/a?b");
  EXPECT_EQ(Url::Parse("http://H")->Text(), "http://h:80/");
  EXPECT_EQ(Url::Parse("https://h?q")->Text(), "https://h:443/?q");
}

TEST(Url, RefusesWhatIsNoPlainHttp) {
  for (const char* bad : {"", "h", "/a", "ftp://h/", "file:///etc/passwd", "http://", "http://u@h/",
                          "http://u:p@h/", "http://a\\b/", "http://h:x/", "http://h:99999/",
                          "http://a b/", "http://h/a\nb", "http://[::1"}) {
    EXPECT_FALSE(Url::Parse(bad)) << bad;
  }
  EXPECT_FALSE(Url::Parse("http://h/" + std::string(100'000, 'a')));
}

// What a server's Location header makes of http://h/a/b?c.
TEST(Url, ResolvesReferences) {
  const Url url = *Url::Parse("http://h/a/b?c");
  EXPECT_EQ(url.Resolve("/x")->Text(), "http://h:80/x");
  EXPECT_EQ(url.Resolve("x?y")->Text(), "http://h:80/a/x?y");
  EXPECT_EQ(url.Resolve("//o/y")->Text(), "http://o:80/y");
  EXPECT_EQ(url.Resolve("https://o:1/y")->Text(), "https://o:1/y");
  for (const char* bad : {"ftp://h/", "file:///etc/passwd", "http://u@h/", "/a b", "/a\r\nX: y"}) {
    EXPECT_FALSE(url.Resolve(bad)) << bad;
  }
}

TEST(Url, Loopback) {
  for (const char* text : {"http://localhost/", "http://LOCALHOST:1/", "http://127.0.0.1/",
                           "http://127.9.9.9/", "http://[::1]/"}) {
    EXPECT_TRUE(Url::Parse(text)->IsLoopback()) << text;
  }
  for (const char* text : {"http://127.evil.example/", "http://localhost.example/", "http://[::2]/",
                           "http://10.0.0.1/"}) {
    EXPECT_FALSE(Url::Parse(text)->IsLoopback()) << text;
  }
}

}  // namespace
}  // namespace tiercel::net
