// expect: boot: a Teacher needs `m.predict(dev, x, t, condition, out)`
// SPDX-License-Identifier: MIT
#include "parts.hpp"

#ifdef BOOT_EXPECT_FAIL
struct under_test : parts::says_prediction, parts::says_shape {
  void predict(const boot::cpu&, boot::view<const double, boot::cpu>, const boot::times<boot::cpu, double>&,
               const boot::no_condition&, boot::view<double, boot::cpu>) const {}
};
#else
struct under_test : parts::teacher {};
#endif

int main() {
  const under_test teacher;
  parts::student student;
  return parts::use<under_test, parts::student, boot::cosine_schedule>(teacher, student);
}
