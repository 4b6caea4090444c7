#include "serving/otlp_target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tiercel::serving {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

std::vector<std::string> warnings;

std::optional<OtlpTarget> Read(const std::string& flag, const Environ& environ = {}) {
  warnings.clear();
  auto target = ReadOtlpTarget(flag, environ, &warnings);
  EXPECT_TRUE(target) << target.error().message();
  return target ? *target : std::nullopt;
}

std::string TargetError(const std::string& flag, const Environ& environ = {}) {
  const auto target = ReadOtlpTarget(flag, environ, &warnings);
  EXPECT_FALSE(target);
  return target ? "" : target.error().message();
}

TEST(OtlpTarget, TheFlagGoesBeforeTheVariable) {
  EXPECT_FALSE(Read(""));
  const Environ environ = {{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:4318/x"}};
  EXPECT_EQ(Read("", environ)->url, "http://b:4318/x");
  EXPECT_EQ(Read("https://a/y", environ)->url, "https://a:443/y");
}

TEST(OtlpTarget, AnAddressWithoutAPathHasTheProtocolsPath) {
  EXPECT_EQ(Read("http://a:4318")->url, "http://a:4318/v1/traces");
  EXPECT_EQ(Read("http://a:4318/")->url, "http://a:4318/v1/traces");
  EXPECT_EQ(Read("http://a:6006/p/v1/traces")->url, "http://a:6006/p/v1/traces");
}

TEST(OtlpTarget, AddressesOfGrpcNameWhatToGiveInstead) {
  for (const char* flag : {"grpc://jaeger:4317", "http://jaeger:4317", "jaeger:4317", "jaeger:4318",
                           "grpc://jaeger", "http://jaeger:4317/v1/traces"}) {
    EXPECT_THAT(TargetError(flag), HasSubstr("--otlp-traces-endpoint: found " + std::string(flag))) << flag;
    EXPECT_THAT(TargetError(flag), HasSubstr("give http://jaeger:4318/v1/traces")) << flag;
  }
  EXPECT_THAT(TargetError("grpcs://jaeger:4317"), HasSubstr("give https://jaeger:4318/v1/traces"));
  EXPECT_THAT(TargetError("https://jaeger:4317"), HasSubstr("give https://jaeger:4318/v1/traces"));
  EXPECT_THAT(TargetError("ftp://a/b"), HasSubstr("--otlp-traces-endpoint"));
  // The variable may be another program's.
  EXPECT_FALSE(Read("", {{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://jaeger:4317"}}));
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("give http://jaeger:4318/v1/traces")));
}

TEST(OtlpTarget, HeadersAndTheResourceComeFromVariables) {
  EXPECT_THAT(Read("http://a")->headers, IsEmpty());
  EXPECT_THAT(Read("http://a")->resource, ElementsAre(Pair("service.name", "unknown_service:tiercel")));
  Environ environ = {{"OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b=%3D , x=,"},
                     {"OTEL_RESOURCE_ATTRIBUTES", "service.name=other,k8s.pod=p"}};
  EXPECT_THAT(Read("http://a", environ)->headers, ElementsAre(Pair("api-key", "a b=="), Pair("x", "")));
  EXPECT_THAT(Read("http://a", environ)->resource,
              ElementsAre(Pair("service.name", "other"), Pair("k8s.pod", "p")));
  environ["OTEL_SERVICE_NAME"] = "mine";
  environ["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] = "y=1";
  EXPECT_THAT(Read("http://a", environ)->headers, ElementsAre(Pair("y", "1")));
  EXPECT_THAT(Read("http://a", environ)->resource,
              ElementsAre(Pair("k8s.pod", "p"), Pair("service.name", "mine")));
}

TEST(OtlpTarget, BadHeadersAreNamedWithoutTheirValues) {
  for (const char* value : {"secret", "a=b,secret", "=secret", "a b=secret", "a=secret%0d%0ax: y"}) {
    const std::string error = TargetError("http://a", {{"OTEL_EXPORTER_OTLP_HEADERS", value}});
    EXPECT_THAT(error, HasSubstr("OTEL_EXPORTER_OTLP_HEADERS")) << value;
    EXPECT_EQ(error.find("secret"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace tiercel::serving
