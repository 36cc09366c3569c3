// SPDX-License-Identifier: MIT
// The cost of a run as text, and the empty conditions that a student is planned with.
#include "support/catch.hpp"

#include <boot/model/mlp.hpp>
#include <boot/nn/cpu/attention.hpp>
#include <boot/nn/cpu/operations.hpp>
#include <boot/train/plan.hpp>

#include <string>

namespace {

using Catch::Matchers::ContainsSubstring;
using labels = boot::class_labels<boot::cpu>;
using prompts = boot::prompt_embeddings<boot::cpu>;
using network = boot::network_model<boot::mlp>;
const boot::cpu dev;

template <class C>
boot::graph_plan planned(const network& student) {
  return student.plan(dev, 8, boot::detail::plan_condition<C>::of(8), true, true, false);
}

}  // namespace

TEST_CASE("bytes and unknown figures in words") {
  CHECK(boot::bytes_text(37) == "37 bytes");
  CHECK(boot::bytes_text(1536) == "1.5 KiB");
  boot::training_plan p;
  CHECK_THAT(to_string(p), ContainsSubstring("activations               not known"));
  p.activation_bytes = 3 << 20;
  CHECK_THAT(to_string(p), ContainsSubstring("3.0 MiB, recorded call"));
}

TEST_CASE("a student is planned by the shape of its condition, where that is known") {
  const network labelled(dev, boot::mlp({.width = 8, .classes = 3}), {});
  CHECK(planned<labels>(labelled).bytes > 0);
  CHECK(planned<boot::conditions<labels, prompts>>(labelled).bytes > 0);  // it does not read the prompts
  const network attending(dev, boot::mlp({.width = 8, .classes = 3, .context_width = 4}), {});
  CHECK_THROWS_AS((planned<boot::conditions<labels, prompts>>(attending)), boot::error);  // tokens unknown
}
