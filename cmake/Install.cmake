# What `cmake --install --component …` puts where. DESTDIR and --prefix are heeded; the program needs
# nothing else of what is installed.
#   tiercel       the program, its documents, man pages and completions
#   service       units for systemd, a configuration in /etc/tiercel
#   vllm_name     a second name for the program
#   library       libtiercel with its header, for CMake's find_package(Tiercel) and for pkg-config
install(TARGETS tiercel RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tiercel)
file(GLOB documents ${CMAKE_SOURCE_DIR}/docs/*.md ${CMAKE_SOURCE_DIR}/docs/*.png)
install(FILES LICENSE NOTICE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT tiercel)
install(FILES ${documents} DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs COMPONENT tiercel)

# The program writes what says what it takes.
set(share_files ${CMAKE_BINARY_DIR}/share)
install(CODE "file(REMOVE_RECURSE \"${share_files}\")
execute_process(COMMAND \"$<TARGET_FILE:tiercel>\" share-files \"${share_files}\" COMMAND_ERROR_IS_FATAL ANY)"
        COMPONENT tiercel)
install(DIRECTORY ${share_files}/ DESTINATION ${CMAKE_INSTALL_DATADIR} COMPONENT tiercel)

# The units name the program where it is installed, which --prefix may say only now.
install(CODE "set(BIN_DIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
set(source \"${CMAKE_SOURCE_DIR}/deploy/systemd/tiercel.service.in\")
set(INSTANCE \"\")
set(CONFIG tiercel)
configure_file(\"\${source}\" \"${CMAKE_BINARY_DIR}/systemd/tiercel.service\" @ONLY)
set(INSTANCE \" (%i)\")
set(CONFIG %i)
configure_file(\"\${source}\" \"${CMAKE_BINARY_DIR}/systemd/tiercel@.service\" @ONLY)"
        COMPONENT service EXCLUDE_FROM_ALL)
install(FILES ${CMAKE_BINARY_DIR}/systemd/tiercel.service ${CMAKE_BINARY_DIR}/systemd/tiercel@.service
        DESTINATION lib/systemd/system COMPONENT service EXCLUDE_FROM_ALL)
# Not over one that was edited.
install(CODE "set(config \"\$ENV{DESTDIR}/etc/tiercel/tiercel.yaml\")
if(NOT EXISTS \"\${config}\")
  file(INSTALL \"${CMAKE_SOURCE_DIR}/deploy/tiercel.yaml\" DESTINATION /etc/tiercel)  # heeds DESTDIR
endif()"
        COMPONENT service EXCLUDE_FROM_ALL)

# Only where it is asked for: vLLM itself may be there.
install(CODE "file(CREATE_LINK tiercel \$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/vllm SYMBOLIC)"
        COMPONENT vllm_name EXCLUDE_FROM_ALL)

if(TIERCEL_BUILD_LIBRARY)
  include(CMakePackageConfigHelpers)
  set(config ${CMAKE_INSTALL_LIBDIR}/cmake/Tiercel)
  install(TARGETS libtiercel EXPORT TiercelTargets
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library EXCLUDE_FROM_ALL NAMELINK_COMPONENT library)
  install(FILES include/tiercel.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT library EXCLUDE_FROM_ALL)
  install(EXPORT TiercelTargets NAMESPACE Tiercel:: DESTINATION ${config} COMPONENT library EXCLUDE_FROM_ALL)
  configure_package_config_file(cmake/TiercelConfig.cmake.in ${CMAKE_BINARY_DIR}/TiercelConfig.cmake
                                INSTALL_DESTINATION ${config})
  write_basic_package_version_file(${CMAKE_BINARY_DIR}/TiercelConfigVersion.cmake COMPATIBILITY SameMinorVersion)
  install(FILES ${CMAKE_BINARY_DIR}/TiercelConfig.cmake ${CMAKE_BINARY_DIR}/TiercelConfigVersion.cmake
          DESTINATION ${config} COMPONENT library EXCLUDE_FROM_ALL)
  file(RELATIVE_PATH prefix_from_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  configure_file(cmake/tiercel.pc.in ${CMAKE_BINARY_DIR}/tiercel.pc @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/tiercel.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
          COMPONENT library EXCLUDE_FROM_ALL)
endif()
