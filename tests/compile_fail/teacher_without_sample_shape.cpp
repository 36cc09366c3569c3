// expect: boot: a Teacher needs `m.sample_shape() -> boot::shape`
// SPDX-License-Identifier: MIT
#include "parts.hpp"

#ifdef BOOT_EXPECT_FAIL
struct under_test : parts::predicts, parts::says_prediction {};
#else
struct under_test : parts::teacher {};
#endif

int main() {
  const under_test teacher;
  parts::student student;
  return parts::use<under_test, parts::student, boot::cosine_schedule>(teacher, student);
}
