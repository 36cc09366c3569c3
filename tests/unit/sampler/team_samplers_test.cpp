// SPDX-License-Identifier: MIT
// Every sampler by teams on host threads against boot::cpu.
#include "samplers_compare.hpp"

#include <boot/kernel/team/for_each.hpp>
#include <boot/kernel/team/noise.hpp>
#include <boot/kernel/team/quantile.hpp>
#include <boot/nn/team/all.hpp>
#include <boot/testing/team_products.hpp>

TEST_CASE("samplers by teams", "[sampler][team]") { boot_test::check_samplers(boot::team_device{}); }
