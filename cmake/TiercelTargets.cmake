# Precompiled headers: one for the folders' libraries, one for the unit tests. Not for kernels:
# their sources have flags of their own and include next to nothing.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # Without the headers' times in it the same header gives the same file, which ccache then finds.
  add_compile_options("SHELL:-Xclang -fno-pch-timestamp")
endif()
function(tiercel_precompiled_header name header)
  add_library(${name} OBJECT ${CMAKE_SOURCE_DIR}/cmake/precompiled/empty.cc)
  target_link_libraries(${name} PRIVATE ${TIERCEL_FMT} ${TIERCEL_SPDLOG} tl::expected ${ARGN})
  target_precompile_headers(${name} PRIVATE ${CMAKE_SOURCE_DIR}/cmake/precompiled/${header})
endfunction()
tiercel_precompiled_header(tiercel_pch external.h)
# A release build's tests take three fifths of the processor's time to compile that they take with -O2 -g (40 s, not
# 69, for 17 sources), and run as fast. With -O0 those that compute their own truths run for 2 to 6 times as long;
# under ASan, too, that costs more (all tests but the kernels' 361 s, not 220) than it saves (145 s).
set(TIERCEL_TEST_FLAGS $<$<CONFIG:Release>:-O1;-g1>)
if(TIERCEL_BUILD_TESTS)
  tiercel_precompiled_header(tiercel_test_pch external_test.h GTest::gtest GTest::gmock)
  target_compile_options(tiercel_test_pch PRIVATE "${TIERCEL_TEST_FLAGS}")
  # The tests are programs: compiled as they are, or the compiler refuses it.
  set_target_properties(tiercel_test_pch PROPERTIES POSITION_INDEPENDENT_CODE OFF)
endif()

# Eight sources at a time, if TIERCEL_UNITY_BUILD. Those with compiler flags of their own stay alone.
function(tiercel_unity_build target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${TIERCEL_UNITY_BUILD} UNITY_BUILD_BATCH_SIZE 8)
  if(TIERCEL_UNITY_BUILD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC takes a source that another one includes for a header.
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
endfunction()

# tiercel_library(NAME [INTERFACE] [NO_PRECOMPILED] SOURCES … DEPENDS folders… LINK external targets…)
# A folder's library, target tiercel_NAME, include root src/.
function(tiercel_library name)
  cmake_parse_arguments(ARG "INTERFACE;NO_PRECOMPILED" "" "SOURCES;DEPENDS;LINK;PRIVATE_LINK" ${ARGN})
  list(TRANSFORM ARG_DEPENDS PREPEND tiercel_)
  if(ARG_INTERFACE)
    add_library(tiercel_${name} INTERFACE)
    target_include_directories(tiercel_${name} INTERFACE ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(tiercel_${name} INTERFACE ${ARG_DEPENDS} ${ARG_LINK})
    return()
  endif()
  add_library(tiercel_${name} STATIC ${ARG_SOURCES})
  target_include_directories(tiercel_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_compile_options(tiercel_${name} PRIVATE ${TIERCEL_WARNINGS})
  target_link_libraries(tiercel_${name} PUBLIC ${ARG_DEPENDS} ${ARG_LINK} Threads::Threads
                                        PRIVATE ${ARG_PRIVATE_LINK})
  if(NOT ARG_NO_PRECOMPILED)
    target_precompile_headers(tiercel_${name} REUSE_FROM tiercel_pch)
  endif()
  tiercel_unity_build(tiercel_${name})
endfunction()

# tiercel_test(NAME SOURCES … DEPENDS folders… [LABELS …] [DATA dir])
# A GoogleTest program, one ctest entry per program. TIERCEL_TEST_DATA names tests/data;
# TIERCEL_SANITIZED is defined where memory and time are also a sanitizer's. The target
# unit_tests builds them all, threads_tests those with the label "threads".
function(tiercel_test name)
  if(NOT TIERCEL_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LABELS;LINK" ${ARGN})
  list(TRANSFORM ARG_DEPENDS PREPEND tiercel_)
  add_executable(${name} ${ARG_SOURCES})
  target_compile_options(${name} PRIVATE ${TIERCEL_WARNINGS} "${TIERCEL_TEST_FLAGS}")
  target_compile_definitions(
    ${name} PRIVATE TIERCEL_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data"
    $<$<BOOL:${TIERCEL_SANITIZED}>:TIERCEL_SANITIZED>)
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} ${ARG_LINK} GTest::gtest_main GTest::gmock)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_precompile_headers(${name} REUSE_FROM tiercel_test_pch)
  tiercel_unity_build(${name})
  add_test(NAME ${name} COMMAND ${name})
  # An emulator takes some ten times as long.
  set_tests_properties(${name} PROPERTIES TIMEOUT $<IF:$<BOOL:${CMAKE_CROSSCOMPILING}>,9000,900> LABELS "${ARG_LABELS}")
  add_dependencies(unit_tests ${name})
  if("threads" IN_LIST ARG_LABELS)
    add_dependencies(threads_tests ${name})
  endif()
endfunction()

# tiercel_benchmark(NAME SOURCES … DEPENDS folders…): a google-benchmark program.
function(tiercel_benchmark name)
  if(NOT TIERCEL_BUILD_BENCHMARKS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  list(TRANSFORM ARG_DEPENDS PREPEND tiercel_)
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} benchmark::benchmark)
  add_dependencies(benchmarks ${name})
endfunction()

set(TIERCEL_WARNINGS -Wall -Wextra -Wno-unused-parameter -Werror=return-type -Werror=switch)
