// expect: boot: a Student needs `m.record(dev, x, t_source, t_target, condition)` returning a tape
// SPDX-License-Identifier: MIT
#include "parts.hpp"

#ifdef BOOT_EXPECT_FAIL
struct half_a_tape {
  parts::input output() const { return {}; }
};
struct under_test : parts::student_predicts, parts::has_parameters, parts::says_prediction, parts::says_shape {
  half_a_tape record(const boot::cpu&, parts::input, const parts::times&, const parts::times&,
                     const boot::no_condition&) {
    return {};
  }
};
#else
struct under_test : parts::student {};
#endif

int main() {
  const parts::teacher teacher;
  under_test student;
  return parts::use<parts::teacher, under_test, boot::cosine_schedule>(teacher, student);
}
