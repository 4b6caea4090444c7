// The one translation unit that compiles Boost.Asio and Boost.Beast themselves.
#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/beast/src.hpp>
