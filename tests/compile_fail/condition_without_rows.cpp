// expect: boot: a Condition needs `c.rows(first, count)` and `c.null()`
// SPDX-License-Identifier: MIT
#include "parts.hpp"

#ifdef BOOT_EXPECT_FAIL
struct half_a_condition {
  half_a_condition null() const { return {}; }
};
struct under_test {
  half_a_condition operator()(const boot::cpu&, std::uint64_t, std::int64_t, std::span<const std::int64_t>) const {
    return {};
  }
};
#else
struct under_test : boot::no_condition_source {};
#endif

int main() {
  const parts::teacher teacher;
  parts::student student;
  return parts::use<parts::teacher, parts::student, boot::cosine_schedule, under_test>(teacher, student);
}
