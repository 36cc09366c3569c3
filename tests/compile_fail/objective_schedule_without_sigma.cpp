// expect: boot: a NoiseSchedule needs `double alpha(double t) const` and `double sigma(double t) const`
// SPDX-License-Identifier: MIT
#include "parts.hpp"

#ifdef BOOT_EXPECT_FAIL
struct under_test {
  double alpha(double t) const { return 1 - t; }
  double t_min() const { return 0.01; }
  double t_max() const { return 0.99; }
};
#else
struct under_test : boot::cosine_schedule {};
#endif

int main() {
  const parts::teacher teacher;
  parts::student student;
  return parts::use<parts::teacher, parts::student, under_test>(teacher, student);
}
