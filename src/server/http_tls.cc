#include "server/http_tls.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/log.h"

namespace tiercel::server {

namespace {

namespace ssl = boost::asio::ssl;

// OpenSSL's reason for a file that it cannot open is "asio.ssl error".
Status CheckFile(std::string_view flag, const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || ::access(path.c_str(), R_OK) != 0) {
    return InvalidArgument("{} {}: {}", flag, path, std::strerror(errno));
  }
  if (S_ISDIR(info.st_mode)) return InvalidArgument("{} {}: is a folder, expected a file", flag, path);
  return OkStatus();
}

// Of a file that can be read and is not what it should be.
Status FileFault(std::string_view flag, const std::string& path, const boost::system::error_code& error) {
  const std::string reason = error.message();
  return InvalidArgument("{} {}: {}", flag, path, reason == "asio.ssl error" ? "cannot be read as PEM" : reason);
}

Expected<std::unique_ptr<ssl::context>> MakeContext(const ServerOptions& options) {
  RETURN_IF_ERROR(CheckFile("--ssl-certfile", options.ssl_certfile));
  RETURN_IF_ERROR(CheckFile("--ssl-keyfile", options.ssl_keyfile));
  if (!options.ssl_ca_certs.empty()) RETURN_IF_ERROR(CheckFile("--ssl-ca-certs", options.ssl_ca_certs));
  auto context = std::make_unique<ssl::context>(ssl::context::tls_server);
  boost::system::error_code error;
  context->set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 |
                           ssl::context::no_sslv3 | ssl::context::no_tlsv1 |
                           ssl::context::no_tlsv1_1,
                       error);
  context->use_certificate_chain_file(options.ssl_certfile, error);
  if (error) return Unexpected(FileFault("--ssl-certfile", options.ssl_certfile, error));
  context->use_private_key_file(options.ssl_keyfile, ssl::context::pem, error);
  if (error) return Unexpected(FileFault("--ssl-keyfile", options.ssl_keyfile, error));
  if (!options.ssl_ca_certs.empty()) {
    context->load_verify_file(options.ssl_ca_certs, error);
    if (error) return Unexpected(FileFault("--ssl-ca-certs", options.ssl_ca_certs, error));
  }
  if (!options.ssl_ciphers.empty() &&
      SSL_CTX_set_cipher_list(context->native_handle(), options.ssl_ciphers.c_str()) != 1) {
    return Unexpected(InvalidArgument("--ssl-ciphers {}: no such cipher", options.ssl_ciphers));
  }
  int mode = ssl::verify_none;
  if (options.ssl_cert_reqs >= 1) mode = ssl::verify_peer;
  if (options.ssl_cert_reqs >= 2) mode |= ssl::verify_fail_if_no_peer_cert;
  context->set_verify_mode(mode, error);
  // Without it OpenSSL ends the handshake of a client that wants to resume a session for which it
  // showed a certificate.
  static constexpr unsigned char kSessions[] = "tiercel";
  SSL_CTX_set_session_id_context(context->native_handle(), kSessions, sizeof(kSessions) - 1);
  return context;
}

}  // namespace

Expected<std::unique_ptr<TlsCertificates>> TlsCertificates::Load(const ServerOptions& options) {
  std::unique_ptr<TlsCertificates> certificates(new TlsCertificates(options));
  certificates->versions_ = certificates->FileVersions();
  ASSIGN_OR_RETURN(certificates->context_, MakeContext(options));
  return certificates;
}

std::vector<std::string> TlsCertificates::FileVersions() const {
  std::vector<std::string> versions;
  for (const std::string& path :
       {options_.ssl_certfile, options_.ssl_keyfile, options_.ssl_ca_certs}) {
    struct stat info {};
    const bool found = !path.empty() && ::stat(path.c_str(), &info) == 0;
    versions.push_back(found ? fmt::format("{}:{}:{}.{}:{}", info.st_dev, info.st_ino,
                                           info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_size)
                             : "");
  }
  return versions;
}

void TlsCertificates::Refresh() {
  std::vector<std::string> versions = FileVersions();
  if (versions == versions_) return;
  versions_ = std::move(versions);
  auto context = MakeContext(options_);
  if (!context) {
    LOG_WARNING("TLS files have changed and cannot be used, the old ones stay: {}",
                context.error().message());
    return;
  }
  context_ = std::move(*context);
  LOG_INFO("TLS files have changed: new connections use them");
}

}  // namespace tiercel::server
