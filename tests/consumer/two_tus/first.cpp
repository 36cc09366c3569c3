// SPDX-License-Identifier: MIT
// Includes every header, as second.cpp does: a definition that is not inline would be there twice.
#include ALL_HEADERS

#include <cstdio>

const void* address_in_second();

int main() {
  const bool same = address_in_second() == static_cast<const void*>(&boot::version_string);
  std::puts(same ? "one program, one copy of the library's names" : "the two translation units have a copy each");
  return same ? 0 : 1;
}
