# A toolchain file: the newest clang that is installed, for the fuzzers. Debian's and Ubuntu's have
# their version in the name.
set(clang_names)
set(clangxx_names)
foreach(version RANGE 30 14 -1)
  list(APPEND clang_names clang-${version})
  list(APPEND clangxx_names clang++-${version})
endforeach()
find_program(CMAKE_C_COMPILER NAMES ${clang_names} clang REQUIRED)
find_program(CMAKE_CXX_COMPILER NAMES ${clangxx_names} clang++ REQUIRED)
