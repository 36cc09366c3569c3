// expect: boot: the optional `lambda(double t) const` of a NoiseSchedule must return double
// SPDX-License-Identifier: MIT
#include <boot/schedule/noise_schedule.hpp>

#ifdef BOOT_EXPECT_FAIL
using lambda_type = float;
#else
using lambda_type = double;
#endif

struct schedule {
  double alpha(double t) const { return 1 - t; }
  double sigma(double t) const { return t; }
  double t_min() const { return 0.01; }
  double t_max() const { return 0.99; }
  lambda_type lambda(double t) const { return static_cast<lambda_type>(t); }
};

int main() { boot::check_schedule<schedule>(); }
