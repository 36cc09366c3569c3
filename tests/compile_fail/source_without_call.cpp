// expect: boot: a ConditionSource needs `source(dev, seed, step, samples)`
// SPDX-License-Identifier: MIT
#include "parts.hpp"

#ifdef BOOT_EXPECT_FAIL
struct under_test {};
#else
struct under_test : boot::no_condition_source {};
#endif

int main() {
  const parts::teacher teacher;
  parts::student student;
  return parts::use<parts::teacher, parts::student, boot::cosine_schedule, under_test>(teacher, student);
}
