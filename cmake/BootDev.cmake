# SPDX-License-Identifier: MIT
# boot_dev: the flags of boot's own tests, examples and benchmarks. Private: neither installed nor seen by a consumer.
add_library(boot_dev INTERFACE)
target_link_libraries(boot_dev INTERFACE boot)
set(boot_gnu_like "$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>")
target_compile_options(boot_dev INTERFACE
  "$<${boot_gnu_like}:-Wall;-Wextra;-Wconversion;-Wshadow>"
  "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fconcepts-diagnostics-depth=3>"
  "$<$<COMPILE_LANG_AND_ID:CXX,MSVC>:/W4;/permissive->")
if(BOOT_WERROR)
  target_compile_options(boot_dev INTERFACE "$<${boot_gnu_like}:-Werror>")
endif()
if(NOT BOOT_WITH_OPENMP)
  target_compile_options(boot_dev INTERFACE "$<${boot_gnu_like}:-Wno-unknown-pragmas>")
endif()
if(BOOT_NATIVE)
  include(CheckCXXCompilerFlag)
  check_cxx_compiler_flag(-march=native BOOT_HAS_MARCH_NATIVE)
  if(BOOT_HAS_MARCH_NATIVE)
    target_compile_options(boot_dev INTERFACE "$<${boot_gnu_like}:-march=native>")
  endif()
endif()
# boot_cuda_dev: the same for .cu files. Both compilers must tune to the same processor: alignments depend on it.
if(BOOT_WITH_CUDA)
  add_library(boot_cuda_dev INTERFACE)
  target_link_libraries(boot_cuda_dev INTERFACE boot_dev boot_cuda)
  target_compile_options(boot_cuda_dev INTERFACE "$<${boot_nvcc}:-Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas>")  # the host pass does not know unroll
  if(BOOT_WERROR)  # a spill or local memory in a kernel is an error too
    target_compile_options(boot_cuda_dev INTERFACE
      "$<${boot_nvcc}:-Xptxas=-warn-spills,-warn-lmem-usage,--warning-as-error;SHELL:--Werror all-warnings>")
  endif()
  if(BOOT_NATIVE AND BOOT_HAS_MARCH_NATIVE)
    target_compile_options(boot_cuda_dev INTERFACE "$<${boot_nvcc}:-Xcompiler=-march=native>")
  endif()
endif()
# boot_program: the same for programs that run, which find files of the source tree (fixtures, data) from any directory.
add_library(boot_program INTERFACE)
target_link_libraries(boot_program INTERFACE boot_dev)
target_compile_definitions(boot_program INTERFACE "BOOT_SOURCE_DIR=\"${PROJECT_SOURCE_DIR}\"")

# CLI11 reads the command lines of the examples and measures.
set(BOOT_WITH_CLI11 OFF)
if(BOOT_BUILD_EXAMPLES OR BOOT_BUILD_BENCHMARKS)
  find_package(CLI11 2.1 QUIET)
  if(NOT TARGET CLI11::CLI11 AND BOOT_FETCH_DEPENDENCIES)
    boot_fetch(CLI11 https://github.com/CLIUtils/CLI11.git v2.4.2)
  endif()
  if(TARGET CLI11::CLI11)
    set(BOOT_WITH_CLI11 ON)
  else()
    message(STATUS "boot: no CLI11 found, examples and measures are left out (Debian: apt-get install libcli11-dev)")
  endif()
endif()
