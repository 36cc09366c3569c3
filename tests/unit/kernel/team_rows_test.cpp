// SPDX-License-Identifier: MIT
/// Chosen rows of an array, on the host and by teams.
#include "support/catch.hpp"

#include <boot/core/error.hpp>
#include <boot/core/random.hpp>
#include <boot/core/scalar.hpp>
#include <boot/kernel/cpu/rows.hpp>
#include <boot/kernel/team/rows.hpp>
#include <boot/tensor/tensor.hpp>
#include <boot/testing/team_device.hpp>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace {

template <class T, class D>
std::vector<T> gathered(const D& dev, const std::vector<T>& from, const std::vector<std::int64_t>& rows, std::int64_t n,
                        std::int64_t shift) {
  const auto batch = std::ssize(from) / n, chosen = std::ssize(rows);
  // One number in front and one behind: an unaligned start, and guards that must stay.
  const std::int64_t ends = 2 + shift;
  boot::tensor<T, D> source(dev, {batch * n + shift}), result(dev, {chosen * n + ends});
  std::vector<T> guarded(static_cast<std::size_t>(result.size()), T(7.0f));
  boot::copy_from_host(dev, from.data(), source.data() + shift, from.size() * sizeof(T));
  boot::copy_from_host(dev, guarded.data(), result.data(), guarded.size() * sizeof(T));
  const auto which = boot::tensor_of<std::int64_t>(dev, std::span<const std::int64_t>(rows), {chosen});
  boot::gather_rows(dev, boot::view<const T, D>(source.data() + shift, {batch, n}), which.data(),
                    boot::view<T, D>(result.data() + 1 + shift, {chosen, n}));
  boot::copy_to_host(dev, result.data(), guarded.data(), guarded.size() * sizeof(T));
  for (std::int64_t i = 0; i <= shift; ++i) CHECK(static_cast<float>(guarded[static_cast<std::size_t>(i)]) == 7);
  CHECK(static_cast<float>(guarded.back()) == 7);
  return {guarded.begin() + 1 + shift, guarded.end() - 1};
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

TEMPLATE_TEST_CASE("gather_rows copies the rows of the list, aligned or not", "[kernel][team]", float, double,
                   boot::bf16) {
  const std::int64_t n = GENERATE(1, 3, 4, 8, 63, 64, 4097, 70'001), shift = GENERATE(0, 1, 7);
  const std::int64_t batch = 5;
  std::vector<TestType> from(static_cast<std::size_t>(batch * n));
  for (std::size_t i = 0; i < from.size(); ++i)
    from[i] = static_cast<TestType>(static_cast<float>(boot::normal({4, boot::stream::test, 1}, 0, i)));
  const std::vector<std::int64_t> rows{4, 0, 0, 2, 3, 1, 4};
  std::vector<TestType> wanted;
  for (const std::int64_t row : rows) wanted.insert(wanted.end(), from.begin() + row * n, from.begin() + (row + 1) * n);
  CAPTURE(n, shift);
  CHECK(same_bits(gathered(boot::cpu{}, from, rows, n, shift), wanted));
  CHECK(same_bits(gathered(boot::team_device{}, from, rows, n, shift), wanted));
}

TEST_CASE("gather_rows wants rows of one length", "[kernel]") {
  const boot::cpu dev;
  const std::int64_t row = 0;
  const boot::tensor<float, boot::cpu> from(dev, {2, 3});
  boot::tensor<float, boot::cpu> to(dev, {1, 4});
  CHECK_THROWS_WITH(boot::gather_rows(dev, from.get(), &row, to.get()),
                    Catch::Matchers::ContainsSubstring("gather_rows got to of shape"));
}
