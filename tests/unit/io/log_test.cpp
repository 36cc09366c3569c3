// SPDX-License-Identifier: MIT
/// io/log.hpp: exact text, exact bytes, and logs of resumed runs equal to those of unbroken ones.
#include "support/catch.hpp"
#include "support/io.hpp"

#include <boot/io/log.hpp>

#include <nlohmann/json.hpp>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

using boot_test::message_of;
using boot_test::temporary_folder;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

/// A clock that makes two logs comparable.
double still_clock() { return 1234.5; }

/// One log of each kind, opened the same way.
struct jsonl {
  static boot::jsonl_log open(const std::string& path, bool append) { return boot::jsonl_log(path, append); }
  static constexpr const char* name = "log.jsonl";
};
struct csv {
  static boot::csv_log open(const std::string& path, bool append) { return boot::csv_log(path, append); }
  static constexpr const char* name = "log.csv";
};
struct tensorboard {
  static boot::tensorboard_log open(const std::string& path, bool append) {
    return boot::tensorboard_log(path, append, &still_clock);
  }
  static constexpr const char* name = "events.out.tfevents.1";
};

/// What step s writes: two values, the second now and then not finite.
template <class L>
void write_step(L& log, std::int64_t s) {
  log.write(
      s, {{"loss", 1.0 / static_cast<double>(s + 1)}, {"norm", s % 5 == 3 ? inf : std::sqrt(static_cast<double>(s))}});
}

struct scalar {
  std::int64_t step;
  std::string tag;
  float value;
};
/// An independent reader of event files: framing, bitwise CRC, protobuf fields by their numbers.
std::vector<scalar> read_events(const std::string& path) {
  const std::string file = boot::read_file(path);
  const auto crc = [](std::string_view s) {
    std::uint32_t c = 0xffffffffu;
    for (const char ch : s) {
      c ^= static_cast<unsigned char>(ch);
      for (int k = 0; k < 8; ++k) c = (c & 1u) != 0 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
    }
    c = ~c;
    return ((c >> 15) | (c << 17)) + 0xa282ead8u;
  };
  const auto u32 = [&](std::size_t at) {
    std::uint32_t v = 0;
    std::memcpy(&v, file.data() + at, 4);
    return v;
  };
  std::vector<scalar> all;
  bool first = true;
  for (std::size_t at = 0; at < file.size();) {
    std::uint64_t n = 0;
    std::memcpy(&n, file.data() + at, 8);
    REQUIRE(u32(at + 8) == crc(std::string_view(file).substr(at, 8)));
    const std::string_view data = std::string_view(file).substr(at + 12, n);
    REQUIRE(data.size() == n);
    REQUIRE(u32(at + 12 + n) == crc(data));
    at += 16 + n;
    const auto fields = [](std::string_view m, auto&& f) {
      const auto varint = [&m] {
        std::uint64_t v = 0;
        for (int k = 0;; k += 7) {
          const auto b = static_cast<unsigned char>(m.front());
          m.remove_prefix(1);
          v |= static_cast<std::uint64_t>(b & 127u) << k;
          if (b < 128) return v;
        }
      };
      while (!m.empty()) {
        const std::uint64_t key = varint();
        const std::uint64_t wire = key & 7;
        const std::uint64_t number = wire == 0 || wire == 2 ? varint() : 0;
        const std::size_t size = wire == 1 ? 8 : wire == 5 ? 4 : wire == 2 ? static_cast<std::size_t>(number) : 0;
        f(key >> 3, number, m.substr(0, size));
        m.remove_prefix(size);
      }
    };
    std::int64_t step = 0;
    fields(data, [&](std::uint64_t field, std::uint64_t number, std::string_view bytes) {
      if (field == 1) CHECK(bytes.size() == 8);
      if (field == 2) step = static_cast<std::int64_t>(number);
      if (field == 3) CHECK((first && bytes == "brain.Event:2"));
      if (field == 5)
        fields(bytes, [&](std::uint64_t one, std::uint64_t, std::string_view value) {
          CHECK(one == 1);
          scalar s{step, {}, 0};
          fields(value, [&](std::uint64_t part, std::uint64_t, std::string_view b) {
            if (part == 1) s.tag = b;
            if (part == 2) std::memcpy(&s.value, b.data(), 4);
          });
          all.push_back(s);
        });
    });
    first = false;
  }
  return all;
}

}  // namespace

TEST_CASE("JSON lines have known text", "[io][log]") {
  const temporary_folder folder;
  {
    boot::jsonl_log log(folder.path("l"));
    log.write(0, {{"loss", 0.5}, {"a \"b\"\n", -0.1}});
    log.write(7, {{"x", std::nan("")}, {"y", inf}, {"z", -inf}, {"w", 1e300}, {"v", -0.0}});
    log.write(-3, {});
  }
  CHECK(boot::read_file(folder.path("l")) ==
        "{\"step\":0,\"loss\":0.5,\"a \\\"b\\\"\\n\":-0.1}\n"
        "{\"step\":7,\"x\":\"NaN\",\"y\":\"Infinity\",\"z\":\"-Infinity\",\"w\":1e+300,\"v\":-0}\n"
        "{\"step\":-3}\n");
}

TEST_CASE("CSV has known text", "[io][log]") {
  const temporary_folder folder;
  {
    boot::csv_log log(folder.path("l"));
    log.write(0, {{"loss", 0.5}, {"a,\"b\"", -0.1}, {"line\nend", 1}});
    log.write(1, {{"line\nend", inf}});
    log.write(2, {{"a,\"b\"", std::nan("")}, {"loss", -inf}});
    CHECK_THAT(message_of([&] {
                 log.write(3, {{"new", 1.0}});
               }),
               ContainsSubstring("no column 'new'") && ContainsSubstring("jsonl_log"));
  }
  CHECK(boot::read_file(folder.path("l")) ==
        "step,loss,\"a,\"\"b\"\"\",line end\n"
        "0,0.5,-0.1,1\n1,,,Infinity\n2,-Infinity,NaN,\n");
}

TEST_CASE("numbers read back as the same double", "[io][log]") {
  const temporary_folder folder;
  std::mt19937_64 random(std::random_device{}());
  std::vector<double> values;
  boot::jsonl_log log(folder.path("l"));
  boot::csv_log table(folder.path("t"));
  for (int i = 0; i < 2000; ++i) {
    double v = std::bit_cast<double>(random());
    if (!std::isfinite(v)) v = static_cast<double>(i) / 10;
    values.push_back(v);
    log.write(i, {{"v", v}});
    table.write(i, {{"v", v}});
  }
  const std::string json = boot::read_file(folder.path("l")), csv_text = boot::read_file(folder.path("t"));
  std::size_t at = 0, cell = csv_text.find('\n') + 1, wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t end = json.find('\n', at);
    const auto line = nlohmann::json::parse(json.substr(at, end - at));
    at = end + 1;
    wrong += line["step"] != i ||
             std::bit_cast<std::uint64_t>(line["v"].get<double>()) != std::bit_cast<std::uint64_t>(values[i]);
    cell = csv_text.find(',', cell) + 1;
    wrong += std::bit_cast<std::uint64_t>(std::strtod(csv_text.c_str() + cell, nullptr)) !=
             std::bit_cast<std::uint64_t>(values[i]);
  }
  CHECK(wrong == 0);
}

TEST_CASE("TensorBoard events have known bytes and read back", "[io][log]") {
  static_assert(boot::detail::crc32c("123456789") == 0xe3069283u);
  static_assert(
      boot::detail::crc32c(std::string_view("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32)) ==
      0x8a9136aau);  // RFC 3720, B.4
  const temporary_folder folder;
  const std::string path = folder.path("events.out.tfevents.1");
  {
    boot::tensorboard_log log(path, false, &still_clock);
    log.write(300, {{"loss", 0.1}, {"rate", inf}});
    log.write(1LL << 40, {{std::string_view("loss"), -2.0}});
  }
  const std::string file = boot::read_file(path);
  CHECK(file.substr(0, 8) == std::string("\x18\0\0\0\0\0\0\0", 8));
  CHECK(file.substr(12, 24) == std::string("\x09\0\0\0\0\0\x4a\x93\x40\x1a\x0d", 11) + "brain.Event:2");
  const auto all = read_events(path);
  REQUIRE(all.size() == 3);
  CHECK((all[0].step == 300 && all[0].tag == "loss" && all[0].value == 0.1f));
  CHECK((all[1].step == 300 && all[1].tag == "rate" && std::isinf(all[1].value)));
  CHECK((all[2].step == 1LL << 40 && all[2].tag == "loss" && all[2].value == -2.0f));
  CHECK_THAT(message_of([&] { boot::tensorboard_log log(folder.path("scalars")); }),
             ContainsSubstring("'tfevents' in their name"));
  CHECK_THAT(message_of([&] { boot::tensorboard_log log("runs.tfevents/scalars"); }),
             ContainsSubstring("'tfevents' in their name"));
}

TEMPLATE_TEST_CASE("a resumed log equals an unbroken one", "[io][log][resume]", jsonl, csv, tensorboard) {
  const temporary_folder folder;
  const std::string unbroken = folder.path(std::string("a.") + TestType::name),
                    broken = folder.path(std::string("b.") + TestType::name);
  {
    auto log = TestType::open(unbroken, false);
    for (std::int64_t s = 0; s < 30; ++s) write_step(log, s);
  }
  const std::string want = boot::read_file(unbroken);
  std::mt19937_64 random(std::random_device{}());
  for (int round = 0; round < 40; ++round) {
    const auto stop = static_cast<std::int64_t>(random() % 31),
               checkpoint = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(stop + 1));
    {
      auto log = TestType::open(broken, false);
      for (std::int64_t s = 0; s < stop; ++s) write_step(log, s);
    }
    if (const std::string text = boot::read_file(broken);
        round % 2 == 0 && text.size() > 30)  // killed within the last write
      boot::atomic_write_file(broken, std::string_view(text).substr(0, text.size() - 1 - random() % 5));
    {
      auto log = TestType::open(broken, true);
      log.resume_at(checkpoint);
      std::int64_t from = checkpoint;
      if (round % 2 == 0 && checkpoint == stop && stop > 0) {  // the record of the last step was the one cut off
        log.resume_at(stop - 1);
        from = stop - 1;
      }
      for (std::int64_t s = from; s < 30; ++s) write_step(log, s);
    }
    INFO("stopped before " << stop << ", resumed at " << checkpoint);
    REQUIRE(boot::read_file(broken) == want);
  }
}

TEMPLATE_TEST_CASE("appending drops a record that was cut off, emptying drops all", "[io][log][resume]", jsonl, csv,
                   tensorboard) {
  const temporary_folder folder;
  const std::string path = folder.path(TestType::name);
  {
    auto log = TestType::open(path, false);
    write_step(log, 0);
  }
  const std::string one = boot::read_file(path);
  {
    auto log = TestType::open(path, true);
    write_step(log, 1);
  }
  const std::string two = boot::read_file(path);
  CHECK(two.size() > one.size());
  for (std::size_t n = one.size(); n < two.size(); ++n) {
    boot::atomic_write_file(path, std::string_view(two).substr(0, n));
    { auto log = TestType::open(path, true); }
    REQUIRE(boot::read_file(path) == one);
  }
  {
    auto log = TestType::open(path, false);
    write_step(log, 0);
  }
  CHECK(boot::read_file(path) == one);
}

TEMPLATE_TEST_CASE("a log refuses bad names, foreign files and full disks, and loses nothing", "[io][log][disk]", jsonl,
                   csv, tensorboard) {
  const temporary_folder folder;
  const std::string path = folder.path(TestType::name);
  auto log = TestType::open(path, false);
  write_step(log, 0);
  const std::string before = boot::read_file(path);
  CHECK_THAT(message_of([&] { log.write(1, {{"step", 1.0}}); }), ContainsSubstring("not empty and not 'step'"));
  CHECK_THAT(message_of([&] { log.write(1, {{"", 1.0}}); }), ContainsSubstring("not empty"));
  CHECK_THAT(message_of([&] { log.write(1, {{"\xff", 1.0}}); }), ContainsSubstring("UTF-8"));
  CHECK_THAT(message_of([&] {
               log.write(1, {{"loss", 1.0}, {"loss", 1.0}});
             }),
             ContainsSubstring("two values called 'loss'"));
  CHECK(boot::read_file(path) == before);
  CHECK_THAT(message_of([&] { TestType::open(folder.path("no/") + TestType::name, true); }),
             ContainsSubstring("create it first"));

  const std::string foreign(40, 'x');
  boot::atomic_write_file(path, std::string_view(foreign + "\n" + foreign + "\n"));
  CHECK_THAT(message_of([&] { TestType::open(path, true); }),
             ContainsSubstring("cannot continue log") && ContainsSubstring("another path"));
  CHECK(boot::read_file(path) == foreign + "\n" + foreign + "\n");
}

TEST_CASE("a log on a full device says so", "[io][log][disk]") {
  boot::jsonl_log lines("/dev/full");
  CHECK_THAT(message_of([&] {
               lines.write(1, {{"x", 1.0}});
             }),
             ContainsSubstring("'/dev/full'") && ContainsSubstring("No space left"));
  boot::csv_log table("/dev/full", true);
  CHECK_THAT(message_of([&] { table.write(1, {{"x", 1.0}}); }), ContainsSubstring("No space left"));
  CHECK_THAT(message_of([&] {
               table.write(1, {{"y", 1.0}});
             }),
             ContainsSubstring("No space left"));  // no column was fixed
}
