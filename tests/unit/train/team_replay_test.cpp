// SPDX-License-Identifier: MIT
/// Captured steps: on a device that captures, a run of replays has the bits of a run without, whatever happens in it.
#include "support/catch.hpp"
#include "support/io.hpp"

#include <boot/kernel/team/for_each.hpp>
#include <boot/kernel/team/noise.hpp>
#include <boot/kernel/team/optimizer.hpp>
#include <boot/kernel/team/step.hpp>
#include <boot/model/guided.hpp>
#include <boot/model/mlp.hpp>
#include <boot/nn/team/embedding.hpp>
#include <boot/nn/team/layer_norm.hpp>
#include <boot/nn/team/operations.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/objective/denoising.hpp>
#include <boot/objective/fixed_point.hpp>
#include <boot/objective/knowledge_distillation.hpp>
#include <boot/schedule/cosine.hpp>
#include <boot/testing/team_device.hpp>
#include <boot/testing/team_products.hpp>
#include <boot/train/checkpoint.hpp>
#include <boot/train/distiller.hpp>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using device = boot::team_device;

// Counts how often its code runs; a loud one also sends something that is new in every step.
template <bool loud>
struct counted : boot::mlp {
  using boot::mlp::mlp;
  static inline int calls = 0;
  template <class G, class C>
  typename G::value operator()(G& g, const typename G::value& x, const boot::times<device, float>& source,
                               const boot::times<device, float>& target, const C& condition) const {
    ++calls;
    if constexpr (loud) {
      static const boot::buffer<device> memory(device{}, sizeof calls);
      boot::copy_from_host(device{}, &calls, memory.data(), sizeof calls);
    }
    return boot::mlp::operator()(g, x, source, target, condition);
  }
};

// Labels and guidance scales; some steps are made to differ from the others.
struct source {
  std::int64_t bad_step = -1;      // its scales are not numbers
  std::int64_t strange_step = -1;  // it enqueues more work than the others
  std::vector<float> host = {};
  boot::tensor<float, device> memory = {}, more = {};
  source() = default;
  source(std::int64_t bad, std::int64_t strange) : bad_step(bad), strange_step(strange) {}
  source(const source& other) : source(other.bad_step, other.strange_step) {}
  boot::guidance_scale<device, float> operator()(const device& dev, std::uint64_t, std::int64_t step,
                                                 std::span<const std::int64_t> samples) {
    host.clear();
    for (const std::int64_t i : samples) host.push_back(1.5f + 0.1f * static_cast<float>((step + i) % 5));
    if (step == bad_step) host[0] = std::numeric_limits<float>::quiet_NaN();
    const auto n = static_cast<std::int64_t>(samples.size());
    if (more.size() < n) more = boot::tensor<float, device>(dev, {n});
    if (step == strange_step) boot::fill_zero(dev, more.get());
    return {{boot::send(dev, std::span<const float>(host), memory), {n}}, host};
  }
};

// A teacher that runs elsewhere: it reads its input back, computes on the host and sends its output, which depends on
// everything it is given. It also takes memory for a while.
struct remote {
  static inline int calls = 0;
  static inline int fails_at = -1;  // the number of a call that throws
  [[nodiscard]] static bool capturable() { return false; }
  [[nodiscard]] static boot::prediction prediction() { return {boot::prediction_kind::v}; }
  [[nodiscard]] static boot::shape sample_shape() { return {2}; }
  void predict(const device& dev, boot::view<const float, device> x, const boot::times<device, float>& t,
               const boot::guidance_scale<device, float>& scale, boot::view<float, device> out) const {
    if (calls++ == fails_at) throw boot::error("the line is down");
    const boot::tensor<float, device> own(dev, {64});
    std::vector<float> y = boot::to_host(dev, x);
    const std::vector<double> when = boot::to_host(dev, t.time);
    const std::vector<float> w = boot::to_host(dev, scale.scale);
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = 0.3f * y[i] - 0.1f * w[i / 2] * static_cast<float>(when[i / 2]);
    boot::copy_from_host(dev, y.data(), out.data(), y.size() * sizeof(float));
  }
};

// Scales that are copied from another place of the device in every other step.
struct turning_source {
  boot::tensor<float, device> table = {}, memory = {};
  explicit turning_source(const device& dev) : table(dev, {16}), memory(dev, {8}) {
    std::vector<float> x(16);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1 + static_cast<float>(i) / 8;
    boot::copy_from_host(dev, x.data(), table.data(), x.size() * sizeof(float));
  }
  turning_source(const turning_source& other) : turning_source(device{}) { static_cast<void>(other); }
  boot::guidance_scale<device, float> operator()(const device& dev, std::uint64_t, std::int64_t step,
                                                 std::span<const std::int64_t> samples) {
    const auto n = static_cast<std::int64_t>(samples.size());
    boot::copy_bytes(dev, table.data() + (step % 2) * 8, memory.data(), samples.size() * sizeof(float));
    return {{memory.data(), {n}}, {}};
  }
};

struct run_options {
  bool capture = true;
  std::int64_t bad_step = -1, strange_step = -1;
  boot::distiller_options train = {};
  std::function<void(const device&)> on_sample = {};
  std::int64_t until = std::numeric_limits<std::int64_t>::max();
  std::string checkpoints = {};
};

struct outcome {
  std::vector<float> weights, average;
  std::vector<std::string> messages;
  std::vector<double> losses;
  double last_loss = 0, norm = 0;
  std::int64_t replayed = 0, skipped = 0, step = 0, updates = 0;
};

template <class Network>
using model_of = boot::network_model<Network, device, float>;

template <class Network>
model_of<Network> new_model(const device& dev) {
  return model_of<Network>(dev, Network({.features = 2, .width = 8, .hidden_layers = 1}), {boot::prediction_kind::v},
                           5);
}

template <class Teacher, class Network>
outcome train(const run_options& o, const device& dev, const Teacher& teacher, const model_of<Network>& inner) {
  auto student = boot::student_of(dev, inner);
  boot::bootstrap loss(teacher, student, boot::cosine_schedule({.t_min = 0.02, .t_max = 0.98}), {.delta = 0.1},
                       source(o.bad_step, o.strange_step));
  boot::distiller_options options = o.train;
  options.batch = 4;
  options.seed = 3;
  options.rate.peak = 1e-2;
  options.progress = boot::progress_mode::off;
  options.capture = o.capture;
  if (options.steps > 100) options.steps = 8;
  boot::distiller trainer{dev, loss, options};
  outcome result;
  trainer.on_message([&](std::string_view text) { result.messages.emplace_back(text); });
  trainer.on_sample([&](const boot::step_info& info) {
    result.losses.push_back(info.loss.total);
    if (o.on_sample) o.on_sample(dev);
  });
  std::optional<boot::checkpoints> store;
  if (!o.checkpoints.empty()) {
    store.emplace(o.checkpoints, boot::checkpoint_options{.every = 3});
    trainer.use(*store);
  }
  const boot::run_result r = trainer.run(o.until);
  result.weights = boot::to_host(dev, student.parameters().values());
  result.average = boot::to_host(dev, trainer.optimizer().average());
  result.last_loss = r.loss.total;
  result.replayed = trainer.replayed_steps();
  result.skipped = r.skipped_steps;
  result.step = r.step;
  result.updates = trainer.optimizer().updates();
  return result;
}

template <class Network = boot::mlp>
outcome train(const run_options& o) {
  const device dev;
  const auto inner = new_model<Network>(dev);
  return train(o, dev, boot::guided(inner), inner);
}

// The same with a teacher that cannot be captured.
outcome train_remotely(const run_options& o) {
  const device dev;
  remote::calls = 0;
  return train(o, dev, remote{}, new_model<boot::mlp>(dev));
}

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && !a.empty() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

void check_equal(const outcome& captured, const outcome& plain) {
  CHECK(same_bits(captured.weights, plain.weights));
  CHECK(same_bits(captured.average, plain.average));
  CHECK(same_bits(std::vector{captured.last_loss}, std::vector{plain.last_loss}));  // NaN behind a bad last step
  CHECK(captured.skipped == plain.skipped);
  CHECK(captured.step == plain.step);
  CHECK(captured.updates == plain.updates);
  CHECK(captured.messages == plain.messages);
  CHECK(captured.losses == plain.losses);
  CHECK(plain.replayed == 0);
}

}  // namespace

TEST_CASE("replayed steps have the bits of steps run as they are written", "[train][team]") {
  boot_test::temporary_folder folder;
  const std::int64_t accumulation = 2;
  run_options o{.train = {.accumulation = accumulation, .folder = folder.path("captured"), .log_every = 4}};
  const outcome captured = train(o);
  CHECK(captured.replayed == 6);  // of 8: two are run as they are written
  o.capture = false;
  o.train.folder = folder.path("plain");
  const outcome plain = train(o);
  check_equal(captured, plain);
  CHECK(plain.updates == 8);
  CHECK(contents(folder.path("captured/log.jsonl")) == contents(folder.path("plain/log.jsonl")));
  CHECK(contents(folder.path("plain/log.jsonl")).size() > 100);
}

TEST_CASE("a replayed step that is not finite updates nothing, and the run goes on behind it", "[train][team]") {
  const std::int64_t bad = GENERATE(2, 7);
  run_options o{.bad_step = bad};
  const outcome captured = train(o);
  o.capture = false;
  const outcome plain = train(o);
  check_equal(captured, plain);
  CHECK(plain.skipped == 1);
  CHECK(captured.replayed >= 6);
}

TEST_CASE("a step that does other work than the captured one is run as it is written", "[train][team]") {
  run_options o{.strange_step = 4};
  const outcome captured = train(o);
  o.capture = false;
  check_equal(captured, train(o));
  CHECK(captured.replayed == 5);  // not 0, 1 and 4
}

TEST_CASE("callbacks see the state of their step and may allocate", "[train][team]") {
  run_options o{.train = {.sample_every = 3}};
  std::vector<boot::tensor<float, device>> kept;
  o.on_sample = [&](const device& dev) { kept.emplace_back(dev, boot::shape{16}); };
  const outcome captured = train(o);
  CHECK(captured.losses.size() == 3);  // after 3, 6 and 8 steps
  CHECK(captured.replayed == 4);       // not 0, 1 and those behind the callbacks: addresses may have changed
  o.capture = false;
  check_equal(captured, train(o));
}

TEST_CASE("a run of replays is resumed exactly", "[train][team]") {
  boot_test::temporary_folder folder;
  const outcome whole = train({});
  run_options o{.until = 5, .checkpoints = folder.path("run")};
  CHECK(train(o).step == 5);
  o.until = 100;
  o.train.resume = true;
  const outcome rest = train(o);
  CHECK(rest.step == 8);
  CHECK(same_bits(rest.weights, whole.weights));
  CHECK(same_bits(rest.average, whole.average));
}

TEST_CASE("rehearsals leave out the code of networks that they know", "[train][team]") {
  run_options o{.train = {.steps = 40, .log_every = 4}};
  const auto calls = [&]<class Network>(std::type_identity<Network>, bool capture) {
    Network::calls = 0;
    o.capture = capture;
    return std::pair(train<Network>(o), Network::calls);
  };
  const auto quiet = std::type_identity<counted<false>>{};
  const auto [plain, plain_calls] = calls(quiet, false);
  const auto [captured, captured_calls] = calls(quiet, true);
  check_equal(captured, plain);
  CHECK(captured.replayed == 38);
  CHECK(captured_calls < plain_calls / 3);  // two steps, a measured and a captured one, the first rehearsals
  // What is sent in a network's code is new in every step, so it runs in every rehearsal.
  const auto loud = std::type_identity<counted<true>>{};
  const auto [loud_plain, loud_plain_calls] = calls(loud, false);
  const auto [loud_captured, loud_captured_calls] = calls(loud, true);
  check_equal(loud_captured, loud_plain);
  CHECK(loud_captured.replayed == 38);
  CHECK(loud_captured_calls >= loud_plain_calls);
}

TEST_CASE("a teacher that cannot be captured is called between two graphs", "[train][team]") {
  run_options o{.train = {.accumulation = 2, .sample_every = 1}};
  const outcome captured = train_remotely(o);
  const int calls = remote::calls;
  CHECK(captured.replayed == 6);
  CHECK(captured.losses.size() == 8);
  o.capture = false;
  const outcome plain = train_remotely(o);
  check_equal(captured, plain);
  CHECK(calls == 16);  // once for each part of each step, none while a step is captured or rehearsed
  CHECK(remote::calls == calls);
}

TEST_CASE("a step whose teacher fails between two graphs is done again", "[train][team]") {
  const auto run = [](int fails_at) {
    remote::fails_at = fails_at;
    const device dev;
    remote::calls = 0;
    const auto inner = new_model<boot::mlp>(dev);
    const remote teacher;
    auto student = boot::student_of(dev, inner);
    boot::bootstrap loss(teacher, student, boot::cosine_schedule({.t_min = 0.02, .t_max = 0.98}), {.delta = 0.1},
                         source());
    boot::distiller trainer{dev, loss, {.steps = 8, .batch = 4, .progress = boot::progress_mode::off}};
    if (fails_at >= 0) {
      CHECK_THROWS_WITH(trainer.run(), Catch::Matchers::ContainsSubstring("the line is down"));
      remote::fails_at = -1;
    }
    CHECK(trainer.run().finished);
    CHECK(trainer.replayed_steps() == 6);
    return boot::to_host(dev, student.parameters().values());
  };
  const auto whole = run(-1);
  CHECK(same_bits(run(5), whole));
}

namespace {

// Trains some steps with an objective that `make(dev, teacher, student)` gives; captured or not.
template <class Make>
outcome train_objective(bool capture, const Make& make) {
  const device dev;
  const auto teacher = new_model<boot::mlp>(dev);
  auto student = boot::student_of(dev, teacher);
  auto loss = make(dev, teacher, student);
  boot::distiller trainer{
      dev, loss, {.steps = 12, .batch = 6, .seed = 3, .progress = boot::progress_mode::off, .capture = capture}};
  outcome result;
  trainer.on_message([&](std::string_view text) { result.messages.emplace_back(text); });
  const boot::run_result r = trainer.run();
  result.weights = boot::to_host(dev, student.parameters().values());
  result.average = boot::to_host(dev, trainer.optimizer().average());
  result.last_loss = r.loss.total;
  result.replayed = trainer.replayed_steps();
  result.step = r.step;
  result.updates = trainer.optimizer().updates();
  return result;
}

template <class Make>
void check_objective(const Make& make) {
  const outcome captured = train_objective(true, make);
  CHECK(captured.replayed == 10);
  check_equal(captured, train_objective(false, make));
}

const boot::cosine_schedule plan({.t_min = 0.02, .t_max = 0.98});

}  // namespace

TEST_CASE("replays of any objective choose the rows of their own step", "[train][team]") {
  SECTION("denoising: rows of the data") {
    std::vector<float> x(2 * 40);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) / 40 - 1;
    const auto data = boot::tensor_of<float>(device{}, std::span<const float>(x), {40, 2});
    check_objective([&](const device&, auto&, auto& student) { return boot::denoising(student, plan, data.get()); });
  }
  SECTION("knowledge distillation: rows of the pool") {
    check_objective([&](const device&, auto& teacher, auto& student) {
      return boot::knowledge_distillation(teacher, student, plan, {.steps = 3, .pool = 40, .pool_batch = 16});
    });
  }
  SECTION("knowledge distillation without a pool") {
    check_objective([&](const device&, auto& teacher, auto& student) {
      return boot::knowledge_distillation(teacher, student, plan, {.steps = 3});
    });
  }
  SECTION("fixed point") {
    check_objective(
        [&](const device&, auto& teacher, auto& student) { return boot::fixed_point(teacher, student, plan); });
  }
}

TEST_CASE("a run of replays that is stopped keeps the count of its updates", "[train][team]") {
  boot_test::temporary_folder folder;
  const auto run = [&](bool capture) {
    const device dev;
    const auto inner = new_model<boot::mlp>(dev);
    auto student = boot::student_of(dev, inner);
    boot::distiller_options options{.steps = 30, .batch = 4, .progress = boot::progress_mode::off, .capture = capture};
    // Stops from the host code of a step that lies ahead of those that are done.
    std::function<void()> stop;
    const auto condition = [&](const device&, std::uint64_t, std::int64_t step, std::span<const std::int64_t>) {
      if (step == 20 && stop) stop();
      return boot::no_condition{};
    };
    boot::bootstrap loss(inner, student, plan, {.delta = 0.1}, condition);
    boot::distiller trainer{dev, loss, options};
    boot::checkpoints store(folder.path(capture ? "captured" : "plain"), {.every = 0});
    trainer.use(store);
    stop = [&] { trainer.request_stop(); };
    const boot::run_result r = trainer.run();
    CHECK(r.interrupted);
    CHECK(trainer.optimizer().updates() == r.step);
    stop = nullptr;
    const boot::run_result rest = trainer.run();
    CHECK(rest.finished);
    return std::pair(boot::to_host(dev, student.parameters().values()), r.loss.total);
  };
  const auto captured = run(true), plain = run(false);
  CHECK(same_bits(captured.first, plain.first));
  CHECK(captured.second > 0);
}

TEST_CASE("plan() forecasts what a run of replays holds", "[train][team]") {
  const device dev;
  const auto teacher = new_model<boot::mlp>(dev);
  auto student = boot::student_of(dev, teacher);
  boot::bootstrap loss(teacher, student, plan);
  boot::distiller trainer{dev, loss, {.steps = 12, .batch = 64, .progress = boot::progress_mode::off}};
  std::vector<std::string> messages;
  trainer.on_message([&](std::string_view text) { messages.emplace_back(text); });
  const boot::training_plan forecast = trainer.plan();
  CHECK(forecast.run_bytes > forecast.live_bytes);
  CHECK_THAT(boot::to_string(forecast), Catch::Matchers::ContainsSubstring("in use by run()"));
  const boot::run_result r = trainer.run();
  CHECK(trainer.replayed_steps() == 10);
  CHECK(r.live_bytes == boot::memory_use<device>().live_bytes);
  CHECK(std::abs(static_cast<double>(r.live_bytes) / static_cast<double>(forecast.run_bytes) - 1) < 0.01);
  CHECK(messages.empty());
  // Who takes memory behind the forecast's back is told.
  boot::distiller more{dev, loss, {.steps = 2, .batch = 64, .progress = boot::progress_mode::off}};
  more.on_message([&](std::string_view text) { messages.emplace_back(text); });
  const boot::training_plan second = more.plan();
  const boot::buffer<device> taken(dev, static_cast<std::size_t>(second.run_bytes));
  static_cast<void>(more.run());
  REQUIRE(messages.size() == 1);
  CHECK_THAT(messages[0], Catch::Matchers::ContainsSubstring("plan() had forecast"));
}

TEST_CASE("steps behind the end of the run are never rehearsed", "[train][team]") {
  check_objective([&](const device&, auto& teacher, auto& student) {
    boot::bootstrap_options o{.delta = 0.1};
    o.time.own = [](double u, double progress) {
      if (progress >= 1) throw boot::error("a step behind the end");
      return 0.2 + 0.6 * u * (1 - progress / 2);
    };
    return boot::bootstrap(teacher, student, plan, o);
  });
}

TEST_CASE("a step that copies from another place than the captured one is run as it is written", "[train][team]") {
  check_equal(train_objective(true,
                              [&](const device& dev, auto& teacher, auto& student) {
                                return boot::bootstrap(teacher, student, plan, {}, turning_source(dev));
                              }),
              train_objective(false, [&](const device& dev, auto& teacher, auto& student) {
                return boot::bootstrap(teacher, student, plan, {}, turning_source(dev));
              }));
}

namespace {

// An objective of one's own that calls a teacher which cannot be captured, and says nothing of it.
struct own_objective {
  using student_type = model_of<boot::mlp>;
  using condition_type = boot::no_condition;
  student_type* trained;
  boot::tensor<float, device> x, y;
  remote source = {};
  bool throws_at_zeros = false;
  own_objective(const device& dev, student_type& s) : trained(&s), x(dev, {4, 2}), y(dev, {4, 2}) {}
  [[nodiscard]] const remote& teacher() const noexcept { return source; }
  [[nodiscard]] student_type& student() const noexcept { return *trained; }
  boot::loss_report operator()(const device& dev, const boot::batch_request& r) {
    const std::vector<std::int64_t> samples{0, 1, 2, 3};
    boot::fill_noise(dev, boot::counter_key{r.seed, boot::stream::noise, static_cast<std::uint64_t>(r.step)},
                     std::span<const std::int64_t>(samples), x.get());
    std::vector<float> seen = boot::to_host(dev, std::as_const(x).get());
    if (throws_at_zeros) boot::require(seen[0] != 0, "the noise is zero");
    for (float& v : seen) v = 0.3f * v + 0.1f;  // what a teacher elsewhere answers
    boot::copy_from_host(dev, seen.data(), y.data(), seen.size() * sizeof(float));
    boot::copy_bytes(dev, y.data(), trained->parameters().gradient().data(), seen.size() * sizeof(float));
    boot::loss_report report;
    report.total = 1;
    return report;
  }
};

}  // namespace

TEST_CASE("an objective that calls such a teacher by itself is not captured", "[train][team]") {
  const auto run = [&](bool capture, std::vector<std::string>& messages) {
    const device dev;
    auto student = new_model<boot::mlp>(dev);
    own_objective loss(dev, student);
    boot::distiller trainer{
        dev, loss, {.steps = 6, .batch = 4, .progress = boot::progress_mode::off, .capture = capture}};
    trainer.on_message([&](std::string_view text) { messages.emplace_back(text); });
    static_cast<void>(trainer.run());
    CHECK(trainer.replayed_steps() == 0);
    return boot::to_host(dev, student.parameters().values());
  };
  std::vector<std::string> said, nothing;
  CHECK(same_bits(run(true, said), run(false, nothing)));
  REQUIRE(said.size() == 1);
  CHECK_THAT(said[0], Catch::Matchers::ContainsSubstring("boot::teacher_call"));
}

TEST_CASE("plan() goes on where a rehearsal does not", "[train][team]") {
  const device dev;
  auto student = new_model<boot::mlp>(dev);
  own_objective loss(dev, student);
  loss.throws_at_zeros = true;
  boot::distiller trainer{dev, loss, {.steps = 4, .batch = 4, .progress = boot::progress_mode::off}};
  const boot::training_plan p = trainer.plan();
  CHECK(p.run_bytes == p.live_bytes);
  CHECK(trainer.run().finished);
}

TEST_CASE("a device that is slower than the host is not lost sight of", "[train][team]") {
  struct slow {
    slow() { boot::team_lag = 1000; }
    ~slow() { boot::team_lag = 0; }
  } while_it_lasts;
  const device dev;
  const auto inner = new_model<boot::mlp>(dev);
  const auto teacher = boot::guided(inner);
  auto student = boot::student_of(dev, inner);
  boot::bootstrap loss(teacher, student, plan, {.delta = 0.1}, source(90, -1));
  boot::distiller trainer{dev, loss, {.steps = 150, .batch = 2, .progress = boot::progress_mode::off}};
  const boot::run_result r = trainer.run();
  CHECK(r.finished);
  CHECK(r.skipped_steps == 1);
  // Steps behind the bad one that were launched before it showed, and are done again: about as many as run ahead.
  CHECK(trainer.replayed_steps() - 148 > 0);
  CHECK(trainer.replayed_steps() - 148 <= 40);
}
