// SPDX-License-Identifier: MIT
/// io/parameters.hpp: a network's parameters through a file, every misfit named, nothing changed by a failed load.
#include "support/catch.hpp"
#include "support/io.hpp"

#include <boot/io/parameters.hpp>
#include <boot/testing/team_device.hpp>

#include <cmath>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

using boot_test::message_of;
using boot_test::temporary_folder;
using Catch::Matchers::ContainsSubstring;

namespace {

struct part {
  boot::parameter weight, bias;
  template <class V>
  void visit(V& v) {
    v("weight", weight);
    v("bias", bias);
  }
};
/// Three linear maps without the arithmetic; `last` is the width of the last one.
struct net {
  std::vector<part> layers;
  boot::parameter scale;
  explicit net(std::int64_t last = 3, std::size_t count = 3) : layers(count) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t out = i + 1 == count ? last : 7;
      layers[i].weight.extents = {out, 5};
      layers[i].bias.extents = {out};
    }
  }
  template <class V>
  void visit(V& v) {
    v("layers", layers);
    v("scale", scale);
  }
};

/// A convolution's parameters: in = 3 and k = 3, so that memory and file have the same extents in different places.
struct convolution {
  boot::parameter weight, bias;
  explicit convolution(std::int64_t out = 2, std::int64_t k = 3, std::int64_t in = 3) {
    weight.extents = {out, k, k, in};
    weight.order = boot::file_order::ohwi_as_oihw;
    bias.extents = {out};
  }
  template <class V>
  void visit(V& v) {
    v("weight", weight);
    v("bias", bias);
  }
};

template <class Network>
boot::parameter_arena<float, boot::cpu> random_arena(Network network) {
  boot::parameter_arena<float, boot::cpu> arena(boot::cpu{}, boot::parameter_layout(network));
  std::mt19937_64 random(std::random_device{}());
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < arena.layout().entries().size(); ++i) {
    const auto v = arena.value(static_cast<int>(i));
    for (std::int64_t k = 0; k < v.size(); ++k) v[k] = normal(random);
  }
  return arena;
}
boot::view<const float, boot::cpu> values_of(const boot::parameter_arena<float, boot::cpu>& a) { return a.values(); }
std::vector<float> copy_of(const boot::parameter_arena<float, boot::cpu>& a) {
  return to_host(boot::cpu{}, values_of(a));
}

}  // namespace

TEST_CASE("parameters come back as they were saved: exact, and rounded where asked", "[io][parameters]") {
  const temporary_folder folder;
  const auto saved = random_arena(net());
  for (const auto d : {boot::file_dtype::f32, boot::file_dtype::bf16, boot::file_dtype::f16}) {
    boot::save_parameters(folder.path("p"), saved.layout(), saved.values(), {.dtype = d, .metadata = {{"kind", "x"}}});
    auto loaded = random_arena(net());
    boot::load_parameters(folder.path("p"), loaded);
    const auto a = copy_of(saved), b = copy_of(loaded);
    double worst = 0;
    int unequal = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      const float want = d == boot::file_dtype::f32    ? a[i]
                         : d == boot::file_dtype::bf16 ? static_cast<float>(boot::bf16(a[i]))
                                                       : boot::half_to_float(boot::float_to_half(a[i]));
      unequal += b[i] != want;
      if (std::fabs(a[i]) > 1e-3f)
        worst = std::max(worst, static_cast<double>(std::fabs(b[i] - a[i]) / std::fabs(a[i])));
    }
    CHECK(unequal == 0);
    CHECK(worst <= (d == boot::file_dtype::f32 ? 0.0 : d == boot::file_dtype::bf16 ? 1.0 / 256 : 1.0 / 2048));
    const auto file = boot::safetensors_file::open(folder.path("p"));
    CHECK(file.metadata() == boot::safetensors_metadata{{"kind", "x"}});
    CHECK(file.tensors().size() == 7);
    CHECK(file.at("layers.0.weight").shape == std::vector<std::int64_t>{7, 5});
    CHECK(file.at("scale").shape.empty());
    CHECK(file.at("layers.2.bias").dtype == d);
  }
}

TEST_CASE("a prefix lets several sets share a file", "[io][parameters]") {
  const temporary_folder folder;
  const auto one = random_arena(net()), two = random_arena(net());
  auto entries = boot::parameter_entries(one.layout(), one.values(), boot::file_dtype::f32, "student.");
  entries.append(boot::parameter_entries(two.layout(), two.values(), boot::file_dtype::f32, "average."));
  boot::write_safetensors(folder.path("both"), entries);
  auto loaded = random_arena(net());
  boot::load_parameters(folder.path("both"), loaded, {.prefix = "average."});
  CHECK(copy_of(loaded) == copy_of(two));
  boot::load_parameters(folder.path("both"), loaded, {.prefix = "student."});
  CHECK(copy_of(loaded) == copy_of(one));
  CHECK_THAT(
      message_of([&] { boot::load_parameters(folder.path("both"), loaded); }),
      ContainsSubstring("7 missing") && ContainsSubstring("14 unexpected") && ContainsSubstring("give the prefix"));
}

TEST_CASE("what does not fit is listed, at most five names, and nothing is changed", "[io][parameters]") {
  const temporary_folder folder;
  const auto refused = [&](net saved, net wanted) {
    const auto from = random_arena(saved);
    boot::save_parameters(folder.path("p"), from.layout(), from.values());
    auto to = random_arena(wanted);
    const auto before = copy_of(to);
    const std::string said = message_of([&] { boot::load_parameters(folder.path("p"), to); });
    CHECK(copy_of(to) == before);
    return said;
  };
  CHECK_THAT(
      refused(net(3, 3), net(3, 7)),
      ContainsSubstring("8 missing: 'layers.3.weight', 'layers.3.bias', 'layers.4.weight', 'layers.4.bias', "
                        "'layers.5.weight' and 3 more") &&
          ContainsSubstring("2 of another shape: 'layers.2.weight' is [3, 5] in the file, [7, 5] in the network"));
  CHECK_THAT(refused(net(7, 4), net(7, 3)),
             ContainsSubstring("2 unexpected: 'layers.3.") && !ContainsSubstring("missing"));
  CHECK_THAT(refused(net(4, 3), net(3, 3)), ContainsSubstring("a network of 7 parameters: 2 of another shape") &&
                                                ContainsSubstring("Use the network the file was written for"));
}

TEST_CASE("weights of convolutions are stored as [out, in, k, k]", "[io][parameters]") {
  const temporary_folder folder;
  for (const std::int64_t in : {1, 3, 4}) {
    const auto saved = random_arena(convolution(2, 3, in));
    for (const auto d : {boot::file_dtype::f32, boot::file_dtype::bf16}) {
      boot::save_parameters(folder.path("p"), saved.layout(), saved.values(), {.dtype = d});
      const auto file = boot::safetensors_file::open(folder.path("p"));
      CHECK(file.at("weight").shape == std::vector<std::int64_t>{2, in, 3, 3});
      CHECK(file.at("bias").shape == std::vector<std::int64_t>{2});
      const auto stored = file.read_floats("weight");
      auto loaded = random_arena(convolution(2, 3, in));
      boot::load_parameters(folder.path("p"), loaded);
      int unequal = 0;
      for (std::int64_t o = 0; o < 2; ++o)
        for (std::int64_t p = 0; p < 9; ++p)
          for (std::int64_t i = 0; i < in; ++i) {
            const std::int64_t here = (o * 9 + p) * in + i;
            const float value = saved.values()[here];
            const float want = d == boot::file_dtype::f32 ? value : static_cast<float>(boot::bf16(value));
            unequal += stored[static_cast<std::size_t>((o * in + i) * 9 + p)] != want;
            unequal += loaded.values()[here] != want;
          }
      CHECK(unequal == 0);
      if (d == boot::file_dtype::f32) CHECK(copy_of(loaded) == copy_of(saved));
    }
  }
}

TEST_CASE("parameters on another device go through a file, and stay where it does not fit", "[io][parameters]") {
  const temporary_folder folder;
  const boot::team_device dev;
  const auto saved = random_arena(convolution(2, 3, 4));
  boot::save_parameters(folder.path("host"), saved.layout(), saved.values());
  convolution network(2, 3, 4), other(3, 3, 4);
  boot::parameter_arena<float, boot::team_device> arena(dev, boot::parameter_layout(network)),
      wider(dev, boot::parameter_layout(other));
  boot::load_parameters(dev, folder.path("host"), arena);
  const auto weight = arena.layout().entries().front();
  const auto numbers = boot::to_host(dev, boot::view<const float, boot::team_device>(arena.values()));
  for (std::int64_t i = 0; i < weight.extents.size(); ++i)
    CHECK(numbers[static_cast<std::size_t>(weight.offset + i)] == saved.values()[weight.offset + i]);
  boot::save_parameters(dev, folder.path("device"), arena.layout(), std::as_const(arena).values());
  auto again = random_arena(convolution(2, 3, 4));
  boot::load_parameters(folder.path("device"), again);
  CHECK(boot::content_hash(again.layout(), again.values()) == boot::content_hash(saved.layout(), saved.values()));

  const auto before = boot::to_host(dev, boot::view<const float, boot::team_device>(wider.values()));
  CHECK_THAT(message_of([&] { boot::load_parameters(dev, folder.path("host"), wider); }),
             ContainsSubstring("of another shape"));
  CHECK(boot::to_host(dev, boot::view<const float, boot::team_device>(wider.values())) == before);
}

TEST_CASE("a convolution's weight of another shape or order is refused", "[io][parameters]") {
  const temporary_folder folder;
  const auto saved = random_arena(convolution(2, 3, 4));
  boot::save_parameters(folder.path("p"), saved.layout(), saved.values());
  const auto said = [&](const convolution& wanted) {
    auto to = random_arena(wanted);
    const auto before = copy_of(to);
    const std::string message = message_of([&] { boot::load_parameters(folder.path("p"), to); });
    CHECK(copy_of(to) == before);
    return message;
  };
  CHECK_THAT(said(convolution(2, 3, 5)),
             ContainsSubstring("'weight' is [2, 4, 3, 3] in the file, [2, 5, 3, 3] in the network"));
  CHECK_THAT(said(convolution(2, 1, 4)), ContainsSubstring("[2, 4, 3, 3] in the file, [2, 4, 1, 1] in the network"));
  convolution plain(2, 3, 4);
  plain.weight.order = boot::file_order::as_is;
  CHECK_THAT(said(plain), ContainsSubstring("[2, 4, 3, 3] in the file, [2, 3, 3, 4] in the network"));
  convolution flat;
  flat.weight.extents = {2, 9};
  CHECK_THAT(message_of([&] { static_cast<void>(boot::parameter_layout(flat)); }),
             ContainsSubstring("'weight' of shape [2, 9] is to be stored as OIHW"));
}

TEST_CASE("several sets with convolutions share a file", "[io][parameters]") {
  const temporary_folder folder;
  const auto one = random_arena(convolution()), two = random_arena(convolution());
  auto tensors = boot::parameter_entries(one.layout(), one.values(), boot::file_dtype::f32, "student.");
  tensors.append(boot::parameter_entries(two.layout(), two.values(), boot::file_dtype::f32, "average."));
  const auto copy = tensors;
  tensors = {};
  boot::write_safetensors(folder.path("both"), copy);
  auto loaded = random_arena(convolution());
  boot::load_parameters(folder.path("both"), loaded, {.prefix = "average."});
  CHECK(copy_of(loaded) == copy_of(two));
  boot::load_parameters(folder.path("both"), loaded, {.prefix = "student."});
  CHECK(copy_of(loaded) == copy_of(one));
}

TEST_CASE("a checkpoint's convolutions are read in the order of memory", "[io][parameters]") {
  const temporary_folder folder;
  const auto saved = random_arena(convolution());
  std::vector<boot::safetensors_entry> entries;
  for (const auto& e : saved.layout().entries()) {
    const std::span<const float> part(saved.values().data() + e.offset, static_cast<std::size_t>(e.extents.size()));
    const std::vector<std::int64_t> extents =
        e.extents.rank() == 4 ? std::vector<std::int64_t>{2, 3, 3, 3} : std::vector<std::int64_t>{2};
    entries.push_back(boot::entry_of<float>("student." + e.name, extents, part));
  }
  boot::write_safetensors(folder.path("step"), entries, {{"format", "boot-checkpoint-1"}});
  auto loaded = random_arena(convolution());
  boot::load_parameters(folder.path("step"), loaded, {.prefix = "student."});
  CHECK(copy_of(loaded) == copy_of(saved));
  boot::write_safetensors(folder.path("other"), entries, {{"format", "boot"}});  // the same bytes as [out, in, k, k]
  boot::load_parameters(folder.path("other"), loaded, {.prefix = "student."});
  CHECK(copy_of(loaded) != copy_of(saved));
}

TEST_CASE("integers, doubles beyond float and wrong sizes are refused", "[io][parameters]") {
  const temporary_folder folder;
  auto arena = random_arena(net());
  const auto before = copy_of(arena);
  auto entries = boot::parameter_entries(arena.layout(), arena.values());
  const std::array<std::int32_t, 1> one{1};
  entries.back() = boot::entry_of<std::int32_t>("scale", {}, one);
  boot::write_safetensors(folder.path("p"), entries);
  CHECK_THAT(message_of([&] { boot::load_parameters(folder.path("p"), arena); }),
             ContainsSubstring("1 not of a float type (F32, F16, BF16, F64): 'scale' is I32"));
  const std::array<double, 1> large{1e300};
  entries.back() = boot::entry_of<double>("scale", {}, large);
  boot::write_safetensors(folder.path("p"), entries);
  CHECK_THAT(message_of([&] { boot::load_parameters(folder.path("p"), arena); }),
             ContainsSubstring("beyond the range of float"));
  CHECK(copy_of(arena) == before);
  CHECK_THAT(message_of([&] { boot::save_parameters(folder.path("p"), arena.layout(), values_of(arena).rows(0, 64)); }),
             ContainsSubstring("got 64 values for a layout of"));
  CHECK_THAT(message_of([&] {
               boot::save_parameters(folder.path("p"), arena.layout(), arena.values(), {.dtype = boot::file_dtype::i8});
             }),
             ContainsSubstring("choose F32, BF16 or F16"));
}

TEST_CASE("the content hash tells bytes, lengths, orders and networks apart", "[io][hash]") {
  std::mt19937_64 random(std::random_device{}());
  std::set<std::uint64_t> seen;
  std::size_t count = 0;
  std::string text(100, '\0');
  for (std::size_t n = 0; n <= text.size(); ++n, ++count)
    seen.insert(boot::content_hash(boot_test::bytes_of(std::string_view(text).substr(0, n))));
  for (char& c : text) c = static_cast<char>(random());
  const std::uint64_t base = boot::content_hash(boot_test::bytes_of(text));
  int flipped = 0;
  for (std::size_t i = 0; i < text.size() * 8; ++i, ++count) {
    std::string other = text;
    other[i / 8] = static_cast<char>(other[i / 8] ^ (1 << (i % 8)));
    const std::uint64_t h = boot::content_hash(boot_test::bytes_of(other));
    seen.insert(h);
    flipped += std::popcount(h ^ base);
  }
  CHECK(seen.size() == count);
  CHECK(flipped / 800.0 > 30);  // half of 64 bits change on average
  CHECK(flipped / 800.0 < 34);
  CHECK(boot::content_hash({}) != boot::content_hash({}, 1));
  CHECK(boot::content_hash(boot_test::bytes_of(text)) == base);

  auto a = random_arena(net());
  auto b = random_arena(net());
  CHECK(boot::content_hash(a.layout(), a.values()) != boot::content_hash(b.layout(), b.values()));
  boot::copy(boot::cpu{}, values_of(a), b.values());
  CHECK(boot::content_hash(a.layout(), a.values()) == boot::content_hash(b.layout(), b.values()));
  b.value(3)[2] += 1;
  CHECK(boot::content_hash(a.layout(), a.values()) != boot::content_hash(b.layout(), b.values()));
}

TEST_CASE("the content hash is the same in every build", "[io][hash]") {
  // Recorded from the first version: a change would make every stored key stale.
  CHECK(boot::content_hash({}) == 0x7cbd6efa40670321u);
  CHECK(boot::content_hash(boot_test::bytes_of("The quick brown fox jumps over the lazy dog")) == 0xf61133ea3120e046u);
}
