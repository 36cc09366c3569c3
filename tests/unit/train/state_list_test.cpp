// SPDX-License-Identifier: MIT
/// State lists: live memory on the host, copies elsewhere; folders made on the way.
#include "support/catch.hpp"
#include "support/io.hpp"

#include <boot/train/state_list.hpp>

#include <cstring>
#include <vector>

namespace other {
/// Host memory that pretends to be a device's: only the copy functions may touch it.
struct device {
  using device_category = device;
  [[nodiscard]] void* allocate(std::size_t bytes) const { return boot::cpu{}.allocate(bytes); }
  void deallocate(void* p, std::size_t bytes) const noexcept { boot::cpu{}.deallocate(p, bytes); }
};
inline void copy_from_host(const device&, const void* from, void* to, std::size_t n) { std::memcpy(to, from, n); }
inline void copy_to_host(const device&, const void* from, void* to, std::size_t n) { std::memcpy(to, from, n); }
inline void copy_bytes(const device&, const void* from, void* to, std::size_t n) { std::memcpy(to, from, n); }
inline void fill_zero(const device&, void* p, std::size_t n) { std::memset(p, 0, n); }
inline void poison(const device&, void* p, std::size_t n) { std::memset(p, 0xff, n); }
inline void synchronize(const device&) {}
}  // namespace other

namespace {
struct two_parameters {
  boot::parameter weight{{2, 3}, {}}, bias{{3}, {}};
  template <class V>
  void visit(V& v) {
    v("weight", weight);
    v("bias", bias);
  }
};
template <class D>
std::vector<float> filled(std::int64_t n) {
  std::vector<float> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i) + 0.5f;
  return v;
}
}  // namespace

TEMPLATE_TEST_CASE("arrays are read and written by name", "[train]", boot::cpu, other::device) {
  const TestType dev{};
  two_parameters network;
  const boot::parameter_layout layout(network);
  REQUIRE(layout.size() == 128);
  const std::vector<float> before = filled<TestType>(layout.size());
  auto flat = boot::tensor_of<float>(dev, std::span<const float>(before), {layout.size()});
  std::int64_t count = 3;
  double sum = 0.25;
  boot::state_list<float, TestType> list(dev);
  list.add_parameters("student.", layout, flat.get());
  list("count", count);
  list("sum", sum);
  list("copy", flat.get());
  boot::training_state state;
  list.move_to(state);
  REQUIRE(state.arrays.size() == 3);
  CHECK(state.arrays[0].name == "student.weight");
  CHECK(state.arrays[0].extents == boot::shape{2, 3});
  CHECK(state.arrays[1].name == "student.bias");
  CHECK(state.arrays[2].name == "objective.copy");
  REQUIRE(state.numbers.size() == 2);
  CHECK(state.numbers[0].name == "objective.count");
  CHECK(*std::get<double*>(state.numbers[1].value) == 0.25);
  list.download();
  CHECK(state.arrays[1].bytes.size() == 12);
  CHECK(std::memcmp(state.arrays[1].bytes.data(), before.data() + 64, 12) == 0);
  CHECK(std::memcmp(state.arrays[2].bytes.data(), before.data(), 512) == 0);
  std::memset(state.arrays[2].bytes.data(), 0, 512);
  list.upload();
  const auto after = boot::to_host(dev, flat.get());
  CHECK(after == std::vector<float>(128, 0.0f));
}

TEST_CASE("folders are made with those above them") {
  const boot_test::temporary_folder folder;
  boot::detail::make_folders(folder.path("a/b/c"));
  boot::detail::make_folders(folder.path("a/b/c"));
  boot::detail::make_folders(folder.path("a/b/d/"));
  CHECK(folder.names() == std::vector<std::string>{"a"});
  CHECK(boot::detail::kind_of(folder.path("a/b/c")) == boot::detail::path_kind::folder);
  CHECK(boot::detail::kind_of(folder.path("a/b/d")) == boot::detail::path_kind::folder);
  boot::detail::make_folders("/");
}
