// TlsCertificates: the TLS context of a server, made from its files. Included by http*.cc alone.
#pragma once

#include <boost/asio/ssl.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "server/server.h"

namespace tiercel::server {

// Not thread-safe: belongs to the thread that accepts.
class TlsCertificates {
 public:
  // kInvalidArgument names the flag whose file or value is wrong. `options` outlive the object.
  static Expected<std::unique_ptr<TlsCertificates>> Load(const ServerOptions& options);

  // For new connections; OpenSSL keeps what they hold of it when it is replaced.
  boost::asio::ssl::context& context() { return *context_; }

  // Reads the files again if one of them has changed since (--enable-ssl-refresh). Files that do
  // not fit together, as in the midst of an exchange, leave the old context in place.
  void Refresh();

 private:
  explicit TlsCertificates(const ServerOptions& options) : options_(options) {}
  // What tells one version of the files from another.
  std::vector<std::string> FileVersions() const;

  const ServerOptions& options_;
  std::unique_ptr<boost::asio::ssl::context> context_;
  std::vector<std::string> versions_;
};

}  // namespace tiercel::server
