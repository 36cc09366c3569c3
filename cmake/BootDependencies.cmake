# SPDX-License-Identifier: MIT
# Finds what boot::boot needs. Nothing is downloaded unless BOOT_FETCH_DEPENDENCIES is ON.

# boot_fetch(name url tag): downloads one dependency at configure time and silences its warnings.
macro(boot_fetch name url tag)
  include(FetchContent)
  message(STATUS "boot: downloading ${name} ${tag} (BOOT_FETCH_DEPENDENCIES=ON)")
  FetchContent_Declare(${name} GIT_REPOSITORY ${url} GIT_TAG ${tag} GIT_SHALLOW ON)
  FetchContent_MakeAvailable(${name})
endmacro()

# boot_require(package version target Debian-package url tag): finds it, else downloads it where allowed, else says how to get it.
macro(boot_require package version target debian url tag)
  if(NOT TARGET ${target})
    find_package(${package} ${version} QUIET)
  endif()
  if(NOT TARGET ${target})
    if(NOT BOOT_FETCH_DEPENDENCIES)
      message(FATAL_ERROR "boot needs ${package} ${version} and did not find it. Install it (Debian: apt-get install ${debian}), "
        "point CMAKE_PREFIX_PATH to it, or set BOOT_FETCH_DEPENDENCIES=ON to download it.")
    endif()
    boot_fetch(${package} ${url} ${tag})
    set(BOOT_FETCHED ON)
  endif()
endmacro()

set(BOOT_FETCHED OFF)
if(BOOT_FETCH_DEPENDENCIES)  # options of the downloaded projects: their tests and install rules stay out of the build
  set(EIGEN_BUILD_DOC OFF)
  set(EIGEN_BUILD_TESTING OFF)
  set(EIGEN_BUILD_PKGCONFIG OFF)
  set(FMT_INSTALL ON)
  set(JSON_BuildTests OFF)
  set(JSON_Install ON)
  set(CLI11_BUILD_TESTS OFF)
  set(CLI11_BUILD_EXAMPLES OFF)
  set(CLI11_BUILD_DOCS OFF)
endif()

boot_require(Eigen3 3.4 Eigen3::Eigen libeigen3-dev https://gitlab.com/libeigen/eigen.git 3.4.0)
boot_require(fmt 9 ${BOOT_FMT} libfmt-dev https://github.com/fmtlib/fmt.git 10.2.1)
boot_require(nlohmann_json 3.11 nlohmann_json::nlohmann_json nlohmann-json3-dev https://github.com/nlohmann/json.git v3.11.3)

if(NOT TARGET Threads::Threads)
  find_package(Threads REQUIRED)
endif()

set(BOOT_WITH_OPENMP OFF)
if(NOT BOOT_OPENMP STREQUAL "OFF")
  find_package(OpenMP QUIET COMPONENTS CXX)
  if(OpenMP_CXX_FOUND)
    set(BOOT_WITH_OPENMP ON)
  elseif(BOOT_OPENMP STREQUAL "ON")
    message(FATAL_ERROR "BOOT_OPENMP=ON but this compiler (${CMAKE_CXX_COMPILER_ID}) has no OpenMP. Install its OpenMP runtime "
      "(Debian: libgomp comes with g++, libomp-dev for clang) or set BOOT_OPENMP=AUTO or OFF.")
  else()
    message(STATUS "boot: no OpenMP found, boot::cpu runs on one thread")
  endif()
endif()

find_package(PNG QUIET)
set(BOOT_WITH_PNG ${PNG_FOUND})
if(NOT BOOT_WITH_PNG)
  message(STATUS "boot: no libpng found, boot/io/image.hpp cannot be used (Debian: apt-get install libpng-dev)")
endif()
