// expect: boot: a training state holds arrays of float, double and std::int64_t
// SPDX-License-Identifier: MIT
// An objective's visit_state() may name arrays of the types that checkpoints know.
#include <boot/train/state_list.hpp>

#ifdef BOOT_EXPECT_FAIL
using element = short;
#else
using element = double;
#endif

int main() {
  boot::state_list<float, boot::cpu> list(boot::cpu{1});
  list("table", boot::view<element, boot::cpu>());
  return 0;
}
