// SPDX-License-Identifier: MIT
/// The training loop: equal to a loop written by hand, accumulation, skipped steps, callbacks, logs, memory, plan.
#include "support/catch.hpp"
#include "support/io.hpp"
#include "train_problem.hpp"

#include <boot/io/file.hpp>
#include <boot/objective/sources.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

using namespace boot_test;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("a run has the bits of the same loop written by hand") {
  const std::uint64_t seed = fresh_seed();
  INFO("seed " << seed);
  const auto options = short_run(40, seed);
  problem a(seed), b(seed);
  boot::distiller trainer{one_thread, a.loss, options};
  std::vector<boot::step_info> seen;
  trainer.on_step([&](const boot::step_info& i) { seen.push_back(i); });
  const auto result = trainer.run();

  boot::adamw<float, boot::cpu> optimizer(one_thread, b.student.parameters(), options.optimizer);
  std::vector<double> losses, norms, rates;
  for (std::int64_t step = 0; step < 40; ++step) {
    boot::fill_zero(one_thread, b.student.parameters().gradient());
    b.loss.begin_step(one_thread, step, 40);
    boot::loss_report sum;
    for (std::int64_t first : {0, 12}) {
      const auto part = b.loss(one_thread, {.seed = seed,
                                            .step = step,
                                            .first = first,
                                            .count = 12,
                                            .total = 24,
                                            .progress = static_cast<double>(step) / 40});
      if (first == 0)
        sum = part;
      else
        sum += part;
    }
    losses.push_back(sum.total);
    rates.push_back(boot::learning_rate(options.rate, step, 40));
    norms.push_back(optimizer.step(one_thread, b.student.parameters(), rates.back()).gradient_norm);
  }
  CHECK(bits(a.student.parameters().values()) == bits(b.student.parameters().values()));
  CHECK(bits(trainer.optimizer().average(0)) == bits(optimizer.average(0)));
  CHECK(bits(trainer.optimizer().average(1)) == bits(optimizer.average(1)));
  REQUIRE(seen.size() == 40);
  for (std::size_t i = 0; i < 40; ++i) {
    CHECK(seen[i].step == static_cast<std::int64_t>(i));
    CHECK(seen[i].steps == 40);
    CHECK(seen[i].loss.total == losses[i]);
    CHECK(seen[i].gradient_norm == norms[i]);
    CHECK(seen[i].rate == rates[i]);
    CHECK_FALSE(seen[i].skipped);
  }
  CHECK(result.step == 40);
  CHECK(result.finished);
  CHECK_FALSE(result.interrupted);
  CHECK_FALSE(result.resumed);
  CHECK(result.loss.total == losses.back());
  CHECK(bits(a.student.parameters().values()) != bits(problem(seed).student.parameters().values()));
  const network average = trainer.average_model(1);
  CHECK(bits(average.parameters().values()) == bits(optimizer.average(1)));
}

TEST_CASE("the README's short form trains") {
  problem p(3);
  const boot::cpu dev{1};
  auto& loss = p.loss;
  // example: distil
  boot::distiller trainer{dev, loss, {.steps = 30, .batch = 16, .progress = boot::progress_mode::off}};
  trainer.run();
  const auto sampler = trainer.average_model();  // the averaged weights make the better samples
  // example-end: distil
  CHECK(trainer.step() == 30);
  CHECK(sampler.sample_shape() == p.student.sample_shape());
}

TEST_CASE("a run in pieces is the same run") {
  const std::uint64_t seed = fresh_seed();
  problem a(seed), b(seed);
  boot::distiller whole{one_thread, a.loss, short_run(11, seed)};
  boot::distiller pieces{one_thread, b.loss, short_run(11, seed)};
  whole.run();
  CHECK_FALSE(pieces.run(3).finished);
  CHECK(pieces.step() == 3);
  CHECK(pieces.run(3).step == 3);  // nothing left to do
  pieces.run(4);
  CHECK(pieces.run().finished);
  CHECK(state_bits(whole) == state_bits(pieces));
  CHECK(pieces.run().step == 11);
}

TEST_CASE("accumulation changes the order of sums and nothing else") {
  const std::uint64_t seed = fresh_seed();
  INFO("seed " << seed);
  std::vector<double> losses[4];
  std::vector<float> gradient[4];
  const std::int64_t parts[4] = {1, 2, 3, 24};
  for (int k = 0; k < 4; ++k) {
    problem p(seed);
    auto options = short_run(1, seed);
    options.accumulation = parts[k];
    boot::distiller trainer{one_thread, p.loss, options};
    trainer.on_step([&](const boot::step_info& i) {
      losses[k] = {i.loss.total, i.loss.part[0].second, i.loss.part[1].second, i.gradient_norm};
      gradient[k] = boot::to_host(one_thread, p.student.parameters().gradient());
    });
    trainer.run();
  }
  double norm = 0;
  for (const float g : gradient[0]) norm += static_cast<double>(g) * static_cast<double>(g);
  norm = std::sqrt(norm);
  REQUIRE(norm > 0);
  for (int k = 1; k < 4; ++k) {
    double difference = 0;
    for (std::size_t i = 0; i < gradient[0].size(); ++i) {
      const double d = static_cast<double>(gradient[k][i]) - static_cast<double>(gradient[0][i]);
      difference += d * d;
    }
    CHECK(std::sqrt(difference) <= 1e-5 * norm);
    // A sample's own loss may differ by the order in which a larger matrix product adds; the parts are few and near.
    for (std::size_t i = 0; i < 4; ++i) CHECK(losses[k][i] == Catch::Approx(losses[0][i]).epsilon(1e-5));
  }
}

TEST_CASE("steps that are not finite change nothing but the counters") {
  const std::uint64_t seed = fresh_seed();
  INFO("seed " << seed);
  problem p(seed);
  p.bad = {2, 5, 6};
  boot::distiller trainer{one_thread, p.loss, short_run(9, seed)};
  std::vector<std::string> messages;
  std::vector<bool> skipped;
  std::string before = bits(p.student.parameters().values());
  trainer.on_message([&](std::string_view text) { messages.emplace_back(text); });
  trainer.on_step([&](const boot::step_info& i) {
    skipped.push_back(i.skipped);
    const std::string now = bits(p.student.parameters().values());
    CHECK((now == before) == (p.bad.count(i.step) > 0));
    CHECK(std::isnan(i.gradient_norm) == (p.bad.count(i.step) > 0));
    before = now;
  });
  const auto result = trainer.run();
  CHECK(skipped == std::vector<bool>{false, false, true, false, false, true, true, false, false});
  CHECK(result.skipped_steps == 3);
  CHECK(result.finished);
  CHECK(trainer.optimizer().updates() == 6);
  REQUIRE(messages.size() == 3);
  CHECK_THAT(messages[0], ContainsSubstring("step 2 skipped"));
  CHECK_THAT(messages[2], ContainsSubstring("2 in a row, 3 in all"));
  for (const float v : boot::to_host(one_thread, p.student.parameters().values())) REQUIRE(std::isfinite(v));
}

namespace {
/// A finite loss whose gradient has an infinity on one step.
struct infinite_gradient {
  problem* p;
  std::int64_t at;
  boot::loss_report operator()(const boot::cpu& dev, const boot::batch_request& r) {
    p->now = r.step;
    const auto report = p->loss(dev, r);
    if (r.step == at) p->student.parameters().gradient()[3] = std::numeric_limits<float>::infinity();
    return report;
  }
  [[nodiscard]] network& student() const { return p->student; }
};
}  // namespace

TEST_CASE("a finite loss with an infinite gradient is skipped too") {
  problem p(1);
  infinite_gradient loss{&p, 1};
  boot::distiller trainer{one_thread, loss, short_run(3, 1)};
  std::string before, message;
  trainer.on_message([&](std::string_view text) { message = text; });
  trainer.on_step([&](const boot::step_info& i) {
    if (i.step == 1) CHECK(bits(p.student.parameters().values()) == before);
    before = bits(p.student.parameters().values());
  });
  CHECK(trainer.run().skipped_steps == 1);
  CHECK_THAT(message, ContainsSubstring("the gradient is not finite"));
}

TEST_CASE("too many bad steps in a row end the run with advice") {
  problem p(1);
  for (std::int64_t i = 4; i < 30; ++i) p.bad.insert(i);
  auto options = short_run(40, 1);
  options.max_skips = 5;
  boot::distiller trainer{one_thread, p.loss, options};
  std::string good;
  trainer.on_step([&](const boot::step_info& i) {
    if (i.step == 3) good = bits(p.student.parameters().values());
  });
  const std::string message = message_of([&] { trainer.run(); });
  CHECK_THAT(message, ContainsSubstring("5 steps in a row"));
  CHECK_THAT(message, ContainsSubstring("lower rate.peak (now 0.003)"));
  CHECK(trainer.step() == 9);
  CHECK(bits(p.student.parameters().values()) == good);
  p.bad.clear();
  CHECK(trainer.run().finished);  // the cause is gone: it goes on from the last good state
}

TEST_CASE("after the first step nothing is allocated on the device") {
  problem p(2);
  boot::distiller trainer{one_thread, p.loss, short_run(20, 2)};
  std::vector<std::int64_t> allocations;
  trainer.on_step([&](const boot::step_info&) { allocations.push_back(boot::memory_use(one_thread).allocations); });
  trainer.run();
  REQUIRE(allocations.size() == 20);
  CHECK(allocations.front() > 0);
  CHECK(std::count(allocations.begin(), allocations.end(), allocations.front()) == 20);
}

TEST_CASE("the log holds means over the steps since the record before") {
  temporary_folder folder;
  problem p(7);
  p.bad = {5};
  auto options = short_run(10, 7);
  options.folder = folder.path("deep/logs");
  options.log_csv = options.log_tensorboard = true;
  boot::distiller trainer{one_thread, p.loss, options};
  double loss = 0, norm = 0, boundary = 0;
  std::string expected, csv = "step,loss,bootstrap,boundary,gradient_norm,rate,skipped\n";
  double bootstrap = 0;
  int count = 0;
  trainer.on_step([&](const boot::step_info& i) {
    if (!i.skipped) {
      loss += i.loss.total;
      bootstrap += i.loss.part[0].second;
      boundary += i.loss.part[1].second;
      norm += i.gradient_norm;
      ++count;
    }
    if (i.done() != 4 && i.done() != 8 && i.done() != 10) return;
    const double n = count;
    expected += fmt::format(
        "{{\"step\":{},\"loss\":{},\"bootstrap\":{},\"boundary\":{},\"gradient_norm\":{},\"rate\":{},\"skipped\":{}}}"
        "\n",
        i.done(), loss / n, bootstrap / n, boundary / n, norm / n, i.rate, i.skipped_steps);
    csv += fmt::format("{},{},{},{},{},{},{}\n", i.done(), loss / n, bootstrap / n, boundary / n, norm / n, i.rate,
                       i.skipped_steps);
    loss = bootstrap = boundary = norm = 0;
    count = 0;
  });
  trainer.run(6);
  trainer.run();
  CHECK(boot::read_file(folder.path("deep/logs/log.jsonl")) == expected);
  CHECK(boot::read_file(folder.path("deep/logs/log.csv")) == csv);
  CHECK(boot::read_file(folder.path("deep/logs/events.out.tfevents.boot")).size() > 100);
}

TEST_CASE("a record of skipped steps alone says NaN, and its loss's parts stay named") {
  temporary_folder folder;
  problem p(7);
  p.bad = {4, 5, 6, 7};
  auto options = short_run(8, 7);
  options.folder = folder.root();
  boot::distiller trainer{one_thread, p.loss, options};
  trainer.run();
  const std::string log = boot::read_file(folder.path("log.jsonl"));
  CHECK_THAT(log, ContainsSubstring("{\"step\":8,\"loss\":\"NaN\",\"bootstrap\":\"NaN\",\"boundary\":\"NaN\","
                                    "\"gradient_norm\":\"NaN\",\"rate\":"));
  CHECK_THAT(log, ContainsSubstring("\"skipped\":4}"));
}

TEST_CASE("samples are asked for every so many steps and at the end") {
  problem p(7);
  auto options = short_run(10, 7);
  options.sample_every = 4;
  boot::distiller trainer{one_thread, p.loss, options};
  std::vector<std::int64_t> at;
  trainer.on_sample([&](const boot::step_info& i) { at.push_back(i.done()); });
  trainer.run();
  CHECK(at == std::vector<std::int64_t>{4, 8, 10});
}

TEST_CASE("request_stop ends a run after its step, and run goes on") {
  problem p(7);
  boot::distiller trainer{one_thread, p.loss, short_run(10, 7)};
  trainer.on_step([&](const boot::step_info& i) {
    if (i.done() == 3) trainer.request_stop();
  });
  const auto first = trainer.run();
  CHECK(first.interrupted);
  CHECK(first.signal == 0);
  CHECK(first.step == 3);
  const auto second = trainer.run();
  CHECK(second.finished);
  CHECK_FALSE(second.interrupted);
}

TEST_CASE("a plan tells the cost and leaves the run as it was") {
  const std::uint64_t seed = fresh_seed();
  problem a(seed), b(seed);
  boot::distiller planned{one_thread, a.loss, short_run(8, seed)};
  boot::distiller plain{one_thread, b.loss, short_run(8, seed)};
  const boot::training_plan plan = planned.plan();
  const auto& layout = a.student.parameters().layout();
  CHECK(plan.parameters == layout.count());
  CHECK(plan.trainable == layout.count());
  CHECK(plan.weight_bytes == layout.size() * 4);
  CHECK(plan.moment_bytes == layout.size() * 8);
  CHECK(plan.average_bytes == layout.size() * 8);
  CHECK(plan.activation_bytes > 0);
  CHECK(plan.working_bytes >= plan.activation_bytes);
  CHECK(plan.live_bytes >= plan.working_bytes + plan.weight_bytes + plan.moment_bytes + plan.average_bytes);
  REQUIRE(plan.calls_known);
  CHECK(plan.calls.teacher_samples == 24);
  CHECK(plan.calls.student_recorded_samples == 24);
  CHECK(plan.samples_per_second > 0);
  const std::int64_t allocations = boot::memory_use(one_thread).allocations;
  planned.on_step([&](const boot::step_info&) { CHECK(boot::memory_use(one_thread).allocations == allocations); });
  planned.run();
  plain.run();
  CHECK(state_bits(planned) == state_bits(plain));
  const std::string text = to_string(plan);
  for (const char* word : {"parameters", "moments", "teacher samples per step", "samples per second", "in 2 parts"})
    CHECK_THAT(text, ContainsSubstring(word));
}

TEST_CASE("a plan of a student with conditions") {
  const schedule times{{0.001, 0.999}};
  const boot::gaussian_mixture<schedule> teacher(times, {{1, {1.0, 0.3}, 0.2, 0}, {2, {-0.8, -0.5}, 0.3, 1}});
  const auto check = [&](double guidance, auto source) {
    network student(one_thread,
                    boot::mlp({.features = 2,
                               .width = 8,
                               .hidden_layers = 1,
                               .classes = 2,
                               .target_time = true,
                               .guidance_scale_input = guidance}),
                    {boot::prediction_kind::v}, 3);
    boot::bootstrap loss{teacher, student, times, {}, source};
    boot::distiller trainer{one_thread, loss, {.steps = 3, .batch = 8, .progress = boot::progress_mode::off}};
    const auto plan = trainer.plan();
    CHECK(plan.activation_bytes > 0);
    CHECK(plan.working_bytes >= plan.activation_bytes);
    CHECK(trainer.run().finished);
  };
  check(0, boot::label_source<boot::cpu>(2));
  check(1, boot::guided_label_source(2, 1, 4));
}

TEST_CASE("options that make no sense are named") {
  problem p(1);
  const auto with = [&](auto change) {
    boot::distiller_options o = short_run(5, 1);
    change(o);
    return message_of([&] { boot::distiller trainer{one_thread, p.loss, o}; });
  };
  CHECK_THAT(with([](auto& o) { o.steps = 0; }), ContainsSubstring("steps = 0"));
  CHECK_THAT(with([](auto& o) { o.batch = -3; }), ContainsSubstring("batch = -3"));
  CHECK_THAT(with([](auto& o) { o.accumulation = 25; }), ContainsSubstring("25 parts of a batch of 24"));
  CHECK_THAT(with([](auto& o) { o.max_skips = 0; }), ContainsSubstring("max_skips = 0"));
  CHECK_THAT(with([](auto& o) { o.log_every = 0; }), ContainsSubstring("log_every = 0"));
  CHECK_THAT(with([](auto& o) { o.log_csv = true; }), ContainsSubstring("set folder"));
  CHECK_THAT(with([](auto& o) { o.rate.peak = -1; }), ContainsSubstring("learning rate -1"));
  CHECK_THAT(with([](auto& o) { o.optimizer.beta1 = 1; }), ContainsSubstring("betas"));
  CHECK(with([](auto&) {}) == "(no error)");
}

TEST_CASE("checkpoints that are not there are asked for by name") {
  problem p(1);
  auto options = short_run(5, 1);
  boot::distiller trainer{one_thread, p.loss, options};
  CHECK_THAT(message_of([&] { trainer.save(); }), ContainsSubstring("call use(checkpoints) first"));
  CHECK_THAT(message_of([&] { static_cast<void>(trainer.resume()); }),
             ContainsSubstring("call use(checkpoints) first"));
  options.resume = true;
  boot::distiller resuming{one_thread, p.loss, options};
  CHECK_THAT(message_of([&] { resuming.run(); }), ContainsSubstring("boot/train/checkpoint.hpp"));
}

TEST_CASE("a folder for logs that cannot be made is named") {
  temporary_folder folder;
  boot::atomic_write_file(folder.path("file"), std::string_view("x"));
  problem p(1);
  auto options = short_run(5, 1);
  options.folder = folder.path("file");
  boot::distiller a{one_thread, p.loss, options};
  CHECK_THAT(message_of([&] { a.run(); }), ContainsSubstring("is not a folder"));
  options.folder = folder.path("file/below");
  boot::distiller b{one_thread, p.loss, options};
  CHECK_THAT(message_of([&] { b.run(); }), ContainsSubstring("file/below"));
}
