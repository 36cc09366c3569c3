// SPDX-License-Identifier: MIT
// The other half of first.cpp.
#include ALL_HEADERS

const void* address_in_second();
const void* address_in_second() { return &boot::version_string; }
