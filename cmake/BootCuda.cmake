# SPDX-License-Identifier: MIT
# boot::cuda, what a program needs to call the CUDA device policy; absent when there is no CUDA toolkit or BOOT_CUDA is OFF.
# The CUDA language is enabled for boot's own build only, never for a parent project.
set(BOOT_WITH_CUDA OFF)
set(BOOT_WITH_CUDNN OFF)
set(BOOT_CUDA_LANGUAGE OFF)  # ON: this build can compile .cu files
if(BOOT_CUDA STREQUAL "OFF")
  return()
endif()

if(PROJECT_IS_TOP_LEVEL)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 90)  # before enable_language: CMake's default is the oldest one the toolkit knows
    endif()
    enable_language(CUDA)
    set(BOOT_CUDA_LANGUAGE ON)
    if(BOOT_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${BOOT_CCACHE})
    endif()
    set(BOOT_NVCC_JOBS 1 CACHE STRING "Parallel nvcc processes of boot's own build; each takes up to 3 GB")
    set_property(GLOBAL APPEND PROPERTY JOB_POOLS boot_nvcc=${BOOT_NVCC_JOBS})  # JOB_POOL_COMPILE of targets with .cu files
    # CMake 3.25 does not list C++20 for nvcc, yet nvcc 12 and later take it. Newer CMake needs none of this.
    if(CMAKE_CUDA_COMPILER_ID STREQUAL "NVIDIA" AND NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_STANDARD__HAS_FULL_SUPPORT ON)
      set(CMAKE_CUDA20_COMPILE_FEATURES "cuda_std_20")
      list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    set(CMAKE_CUDA_EXTENSIONS OFF)
  elseif(BOOT_CUDA STREQUAL "ON")
    message(FATAL_ERROR "BOOT_CUDA=ON but no CUDA compiler was found. Set CMAKE_CUDA_COMPILER to nvcc's path (CUDA 12 or later), "
      "or BOOT_CUDA=OFF.")
  endif()
endif()

find_package(CUDAToolkit 12 QUIET)
if(CUDAToolkit_FOUND)
  set(BOOT_WITH_CUDA ON)
  add_library(boot_cuda INTERFACE)
  add_library(boot::cuda ALIAS boot_cuda)
  set_target_properties(boot_cuda PROPERTIES EXPORT_NAME cuda)
  target_link_libraries(boot_cuda INTERFACE boot CUDA::cudart CUDA::cublas CUDA::cublasLt)
  # In CUDA translation units fmt 9 needs constexpr switched back on, and Eigen 3.4 must behave as it does under the host
  # compiler: otherwise it drops to scalar code there, and the linker may keep that copy for the whole program. For the
  # same reason OpenMP is on for both. A project that names no CUDA standard gets C++20, which CMake 3.25 cannot ask for.
  set(boot_nvcc "$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>")
  target_compile_definitions(boot_cuda INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:FMT_USE_CONSTEXPR=1;EIGEN_NO_CUDA>)
  target_compile_options(boot_cuda INTERFACE
    "$<$<AND:${boot_nvcc},$<NOT:$<BOOL:$<TARGET_PROPERTY:CUDA_STANDARD>>>>:-std=c++20>")
  if(BOOT_WITH_OPENMP)
    target_compile_options(boot_cuda INTERFACE "$<${boot_nvcc}:-Xcompiler=${OpenMP_CXX_FLAGS}>")
  endif()

  # cuDNN 9 has no CMake package: its header and library lie with the toolkit or on the system's paths.
  find_path(BOOT_CUDNN_INCLUDE cudnn_graph.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(BOOT_CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${CUDAToolkit_LIBRARY_DIR})
  mark_as_advanced(BOOT_CUDNN_INCLUDE BOOT_CUDNN_LIBRARY)
  if(BOOT_CUDNN_INCLUDE AND BOOT_CUDNN_LIBRARY)
    set(BOOT_WITH_CUDNN ON)
    add_library(boot::cudnn INTERFACE IMPORTED GLOBAL)
    target_include_directories(boot::cudnn INTERFACE ${BOOT_CUDNN_INCLUDE})
    target_link_libraries(boot::cudnn INTERFACE ${BOOT_CUDNN_LIBRARY})
    target_link_libraries(boot_cuda INTERFACE boot::cudnn)
  else()
    message(STATUS "boot: no cuDNN 9 found, convolutions cannot run on boot::cuda (set BOOT_CUDNN_INCLUDE and BOOT_CUDNN_LIBRARY)")
  endif()
elseif(BOOT_CUDA STREQUAL "ON")
  message(FATAL_ERROR "BOOT_CUDA=ON but no CUDA toolkit 12 or later was found. Set CUDAToolkit_ROOT, or BOOT_CUDA=OFF.")
endif()
