// expect: boot: an Objective needs `o(dev, batch_request) -> loss_report` and `o.student()`
// SPDX-License-Identifier: MIT
// What is trained with must be an Objective: here its report is a plain number.
#include <boot/train/distiller.hpp>

struct student_type {
  boot::parameter_arena<float, boot::cpu> arena;
  boot::parameter_arena<float, boot::cpu>& parameters() { return arena; }
};
struct loss_type {
  student_type trained;
#ifdef BOOT_EXPECT_FAIL
  double operator()(const boot::cpu&, const boot::batch_request&) { return 0; }
#else
  boot::loss_report operator()(const boot::cpu&, const boot::batch_request&) { return {}; }
#endif
  student_type& student() { return trained; }
};

using trainer = boot::distiller<loss_type, boot::cpu>;
int main() { return sizeof(trainer) > 0 ? 0 : 1; }
