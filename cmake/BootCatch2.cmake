# SPDX-License-Identifier: MIT
# Gives Catch2::Catch2WithMain: Catch2 3 when there is one, else 2.13, else a download where BOOT_FETCH_DEPENDENCIES allows it.
set(BOOT_CATCH2 AUTO CACHE STRING "Which Catch2 the tests use: AUTO, 3 or 2")
set_property(CACHE BOOT_CATCH2 PROPERTY STRINGS AUTO 3 2)

set(boot_catch2_found OFF)
if(BOOT_CATCH2 MATCHES "^(AUTO|3)$")
  find_package(Catch2 3 QUIET CONFIG)
  set(boot_catch2_found ${Catch2_FOUND})
endif()
if(NOT boot_catch2_found AND BOOT_CATCH2 MATCHES "^(AUTO|2)$")
  find_package(Catch2 2.13 QUIET CONFIG)
  set(boot_catch2_found ${Catch2_FOUND})
  if(boot_catch2_found AND NOT TARGET Catch2::Catch2WithMain)  # upstream's own 2.13 install has no library with main
    file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/catch2_main.cpp CONTENT "#define CATCH_CONFIG_MAIN\n#include <catch2/catch.hpp>\n")
    add_library(boot_catch2_main STATIC ${CMAKE_CURRENT_BINARY_DIR}/catch2_main.cpp)
    target_link_libraries(boot_catch2_main PUBLIC Catch2::Catch2)
    add_library(Catch2::Catch2WithMain ALIAS boot_catch2_main)
  endif()
endif()
if(NOT boot_catch2_found)
  if(NOT BOOT_FETCH_DEPENDENCIES)
    message(FATAL_ERROR "The tests need Catch2 3 or 2.13 (BOOT_CATCH2=${BOOT_CATCH2}) and none was found. "
      "Install it (Debian: apt-get install catch2), or set BOOT_FETCH_DEPENDENCIES=ON, or BOOT_BUILD_TESTS=OFF.")
  endif()
  boot_fetch(Catch2 https://github.com/catchorg/Catch2.git v3.7.1)
endif()
