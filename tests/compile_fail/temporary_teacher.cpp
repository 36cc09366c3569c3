// expect: deleted
// SPDX-License-Identifier: MIT
// A teacher that is gone after the line would be pointed at: the overload is deleted.
#include "parts.hpp"

#ifdef BOOT_EXPECT_FAIL
#  define BOOT_TEACHER \
    parts::teacher {}
#else
#  define BOOT_TEACHER teacher
#endif

int main() {
  const parts::teacher teacher;
  parts::student student;
  boot::bootstrap loss(BOOT_TEACHER, student, boot::cosine_schedule{});
  return &loss.teacher() == &teacher ? 0 : 1;
}
