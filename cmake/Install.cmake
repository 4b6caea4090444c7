# What `cmake --install --component …` puts where. DESTDIR and --prefix are heeded; the program needs
# nothing else of what is installed.
#   tiercel       the program, its documents, man pages and completions
#   service       units for systemd, a configuration in /etc/tiercel
#   vllm_name     a second name for the program
include(GNUInstallDirs)
install(TARGETS tiercel RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tiercel)
file(GLOB documents ${CMAKE_SOURCE_DIR}/docs/*.md)
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
