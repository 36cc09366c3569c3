// SPDX-License-Identifier: MIT
// Every objective by teams on host threads against boot::cpu.
#include "objectives_compare.hpp"

#include <boot/kernel/team/for_each.hpp>
#include <boot/kernel/team/noise.hpp>
#include <boot/nn/team/all.hpp>
#include <boot/testing/team_products.hpp>

TEST_CASE("objectives by teams", "[objective][team]") { boot_test::check_objectives(boot::team_device{}); }
