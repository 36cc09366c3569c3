// SPDX-License-Identifier: MIT
/// A teacher, a student and a schedule that keep every contract: each case takes one piece away.
#pragma once

#include <boot/device/cpu.hpp>
#include <boot/kernel/cpu/for_each.hpp>
#include <boot/kernel/cpu/noise.hpp>
#include <boot/objective/bootstrap.hpp>
#include <boot/schedule/cosine.hpp>

namespace parts {

using input = boot::view<const float, boot::cpu>;
using output = boot::view<float, boot::cpu>;
using times = boot::times<boot::cpu, float>;

struct predicts {
  void predict(const boot::cpu&, input, const times&, const boot::no_condition&, output) const {}
};
struct says_prediction {
  boot::prediction prediction() const { return {boot::prediction_kind::v}; }
};
struct says_shape {
  boot::shape sample_shape() const { return {2}; }
};
struct teacher : predicts, says_prediction, says_shape {};

struct student_predicts {
  void predict(const boot::cpu&, input, const times&, const times&, const boot::no_condition&, output) const {}
};
struct tape {
  input output() const { return {}; }
  void backward(const boot::cpu&, input) {}
};
struct records {
  tape record(const boot::cpu&, input, const times&, const times&, const boot::no_condition&) { return {}; }
};
struct has_parameters {
  boot::parameter_arena<float, boot::cpu> arena;
  boot::parameter_arena<float, boot::cpu>& parameters() { return arena; }
};
struct student : student_predicts, records, has_parameters, says_prediction, says_shape {};

template <class Teacher, class Student, class Schedule, class Source = boot::no_condition_source>
int use(const Teacher& t, Student& s, Schedule schedule = {}) {
  boot::bootstrap<Teacher, Student, Schedule, Source> loss(t, s, schedule);
  return loss(boot::cpu{}, {.count = 4}).finite() ? 0 : 1;
}

}  // namespace parts
