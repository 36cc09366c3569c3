// expect: boot: a Student needs `m.record(dev, x, t_source, t_target, condition)` returning a tape
// SPDX-License-Identifier: MIT
#include "parts.hpp"

#ifdef BOOT_EXPECT_FAIL
struct under_test : parts::student_predicts, parts::has_parameters, parts::says_prediction, parts::says_shape {};
#else
struct under_test : parts::student {};
#endif

int main() {
  const parts::teacher teacher;
  under_test student;
  return parts::use<parts::teacher, under_test, boot::cosine_schedule>(teacher, student);
}
