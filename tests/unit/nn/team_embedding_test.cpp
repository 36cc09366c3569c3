// SPDX-License-Identifier: MIT
/// Sinusoids and class embeddings as team kernels on the host device, against the loops of boot::cpu.
#include "support/catch.hpp"
#include "team_arrays.hpp"

#include <boot/nn/cpu/operations.hpp>
#include <boot/nn/team/embedding.hpp>

namespace {
using boot::testing::team_array;
using boot::testing::team_tolerance;
using device = boot::testing::team_device;
constexpr device dev{};
constexpr boot::cpu host{1};

template <class T>
void embed(std::int64_t rows, std::int64_t n, bool all_null) {
  CAPTURE(rows, n, all_null, sizeof(T));
  const std::int64_t classes = 4;
  team_array<T> table({classes + 1, n}, 1), y({rows, n}, 2, 1);
  const team_array<T> dy({rows, n}, 3, 1);
  std::vector<std::int32_t> ids;
  for (std::int64_t r = 0; r < rows; ++r) ids.push_back(static_cast<std::int32_t>((r * 7) % 5) - 1);  // class 3 rarely
  const auto ids_there = boot::testing::on_device(ids);
  const boot::class_labels<device> labels{{ids_there.data(), {rows}}, all_null};
  const boot::class_labels<boot::cpu> host_labels{{ids.data(), {rows}}, all_null};

  y.poison();
  boot::embedding_forward(dev, table.in(), labels, y.numbers);
  boot::embedding_forward(host, boot::testing::in(table.host, {classes + 1, n}), host_labels,
                          boot::testing::out(y.host, {rows, n}));
  CHECK(y.error() == 0);

  boot::embedding_backward(dev, dy.in(), labels, table.numbers);
  boot::embedding_backward(host, boot::testing::in(dy.host, {rows, n}), host_labels,
                           boot::testing::out(table.host, {classes + 1, n}));
  CHECK(table.error() <= team_tolerance<T>(2));
}
}  // namespace

TEMPLATE_TEST_CASE("Team kernels of class embeddings are the host's loops", "[nn][team]", float, double, boot::bf16) {
  for (const bool all_null : {false, true}) {
    embed<TestType>(1, 1, all_null);
    embed<TestType>(7, 63, all_null);
    embed<TestType>(12, 300, all_null);
  }
}

TEST_CASE("Gradients of class embeddings add rows in the order of the batch, bit by bit", "[nn][team]") {
  const std::int64_t rows = 40, n = 5;
  team_array<float> dy({rows, n}, 1), dtable({3, n}, 2);
  std::vector<float> want = to_host(dev, dtable.in());
  std::vector<std::int32_t> ids;
  for (std::int64_t r = 0; r < rows; ++r) ids.push_back(static_cast<std::int32_t>(r % 3) - 1);
  boot::embedding_backward(host, boot::view<const float, boot::cpu>(dy.numbers.data(), {rows, n}),
                           boot::class_labels<boot::cpu>{{ids.data(), {rows}}}, boot::testing::out(want, {3, n}));
  const auto ids_there = boot::testing::on_device(ids);
  boot::embedding_backward(dev, dy.in(), boot::class_labels<device>{{ids_there.data(), {rows}}}, dtable.numbers);
  CHECK(to_host(dev, dtable.in()) == want);
}

TEST_CASE("The row of a class that the table does not have becomes NaN", "[nn][team]") {
  team_array<float> table({3, 2}, 1), y({3, 2}, 2);
  const auto ids = boot::testing::on_device(std::vector<std::int32_t>{0, 2, -1});  // classes 0, 1 and the null class
  boot::embedding_forward(dev, table.in(), boot::class_labels<device>{{ids.data(), {3}}}, y.numbers);
  const auto got = to_host(dev, y.in());
  CHECK(got[0] == table.numbers.data()[0]);
  CHECK(std::isnan(got[2]));
  CHECK(std::isnan(got[3]));
  CHECK(got[5] == table.numbers.data()[5]);
}

TEMPLATE_TEST_CASE("Team kernels of sinusoids are the host's loops", "[nn][team]", float, double) {
  using T = TestType;
  for (const std::int64_t features : {2, 7, 128, 131})
    for (const bool cosine_first : {false, true}) {
      CAPTURE(features, cosine_first);
      const std::int64_t rows = 4;
      const std::vector<T> input{T(0), T(0.37), T(999), T(-12345.678)};
      team_array<T> y({rows, features}, 1, 1);
      y.poison();
      std::vector<T> want(static_cast<std::size_t>(rows * features));
      boot::sinusoids(host, input.data(), rows, features, cosine_first, 0, 10000, 1.5, want.data());
      boot::sinusoids(dev, boot::testing::on_device(input).data(), rows, features, cosine_first, 0, 10000, 1.5,
                      y.numbers.data());
      for (std::size_t i = 0; i < want.size(); ++i) y.host[i] = static_cast<double>(want[i]);
      // Angles to 2e4: in double the last bit of an angle is 4e-12. In float both round the angle alike.
      CHECK(y.error() <= (sizeof(T) == 8 ? 4e-12 : 4e-7));
    }
}
