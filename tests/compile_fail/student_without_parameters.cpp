// expect: boot: a Student needs `m.parameters()` returning boot::parameter_arena<T, D>&
// SPDX-License-Identifier: MIT
#include "parts.hpp"

#ifdef BOOT_EXPECT_FAIL
struct under_test : parts::student_predicts, parts::records, parts::says_prediction, parts::says_shape {};
#else
struct under_test : parts::student {};
#endif

int main() {
  const parts::teacher teacher;
  under_test student;
  return parts::use<parts::teacher, under_test, boot::cosine_schedule>(teacher, student);
}
