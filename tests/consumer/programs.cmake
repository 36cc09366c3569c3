# SPDX-License-Identifier: MIT
# The consumer's programs and its strict flags: boot's headers must not warn in them.
set(strict -Wall -Wextra -Wconversion -Wshadow -Wpedantic -Wold-style-cast -Werror)

add_executable(program ${CMAKE_CURRENT_LIST_DIR}/main.cpp)
target_link_libraries(program PRIVATE boot::boot)
target_compile_options(program PRIVATE ${strict})

add_executable(two_tus ${CMAKE_CURRENT_LIST_DIR}/two_tus/first.cpp ${CMAKE_CURRENT_LIST_DIR}/two_tus/second.cpp)
target_link_libraries(two_tus PRIVATE boot::boot)
target_compile_options(two_tus PRIVATE ${strict} -O0)
target_compile_definitions(two_tus PRIVATE "ALL_HEADERS=\"${ALL_HEADERS}\"")
