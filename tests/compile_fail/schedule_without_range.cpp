// expect: boot: a NoiseSchedule needs `double t_min() const` and `double t_max() const`, both returning exactly double.
// SPDX-License-Identifier: MIT
#include <boot/schedule/noise_schedule.hpp>

struct schedule {
  double alpha(double t) const { return 1 - t; }
  double sigma(double t) const { return t; }
#ifndef BOOT_EXPECT_FAIL
  double t_min() const { return 0; }
  double t_max() const { return 1; }
#endif
};

int main() { boot::check_schedule<schedule>(); }
