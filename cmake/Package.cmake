# The Debian package, of a folder that scripts/make_deb.sh has laid out: `make deb`.
set(TIERCEL_MAINTAINER "The Tiercel authors <tiercel@tiercel.invalid>" CACHE STRING "Of the packages")
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME tiercel)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_INSTALL_CMAKE_PROJECTS "")
set(CPACK_INSTALLED_DIRECTORIES "${CMAKE_BINARY_DIR}/deb/root;/")
set(CPACK_PACKAGING_INSTALL_PREFIX /)
set(CPACK_PACKAGE_DIRECTORY "${CMAKE_BINARY_DIR}/deb")
set(CPACK_PACKAGE_CONTACT "${TIERCEL_MAINTAINER}")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "ca-certificates")
# CPack indents the lines and writes the empty one as "." itself.
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "server for language models on the CPU
Tiercel serves Qwen3, Qwen2 and Llama models on the CPU, from one native
program, with the command line of vLLM and the HTTP API of OpenAI: scripts,
clients and dashboards that were made for vLLM work unchanged.

Units for systemd run it as a user of its own; they read /etc/tiercel.")
set(debian ${CMAKE_SOURCE_DIR}/deploy/debian)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    "${CMAKE_BINARY_DIR}/deb/conffiles;${debian}/postinst;${debian}/prerm;${debian}/postrm")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
