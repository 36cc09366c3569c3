// SPDX-License-Identifier: MIT
// The library's networks against diffusers: tiny random models with reference outputs and gradients, written by the peers'
// parity.py in float64 throughout, read with the library's own loader and run in float64. Without --set the public set is
// made by a Python with diffusers. Every model of a known class in the set is a case; the figure is the worst one's.
//
// An output's error is the RMS of the difference relative to the RMS of the reference. A gradient's is the largest of the
// same for the gradient of the images, and, over all parameters, the difference of the gradient's norm relative to the
// larger of the norm and 1e-3 of the whole gradient's (attention's to_k.bias has the gradient 0 but for rounding). Times
// are inputs without a gradient: the derivatives by them in the set are not compared.
#include "measure/measure.hpp"
#include "measure/torch_peer.hpp"

#include <boot/interop/diffusers.hpp>
#include <boot/interop/dit.hpp>
#include <boot/io/safetensors.hpp>
#include <boot/model/unet2d.hpp>
#include <boot/nn/cpu/all.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;
using boot::cpu;
using boot::measure::shell_word;

/// The public set, made by parity.py unless an earlier run did.
fs::path public_set(const boot::measure::torch_peer& torch, const fs::path& cache) {
  const std::string script = torch.script("parity.py");
  const auto text = boot::measure::content_of(script);
  boot::require(text.has_value(), "measure parity: cannot read '{}'", script);
  const fs::path set = cache / fmt::format("public-{:016x}", boot::measure::hash_bytes(*text));
  if (fs::exists(set / "done")) return set;
  boot::require(boot::measure::output_of("OMP_NUM_THREADS=1 " + shell_word(torch.python()) + " " + shell_word(script) +
                                         " " + shell_word(set.string()) + " --set public 1>&2")
                    .has_value(),
                "measure parity: '{}' could not write a set into '{}'; its messages are above", script, set.string());
  boot::bench::write_file((set / "done").string(), "1\n");
  return set;
}

/// A tensor [batch, channels, height, width] of a file as [batch, height, width, channels].
template <class T>
std::vector<T> image(const boot::safetensors_file& file, const std::string& name) {
  const auto& t = file.at(name);
  const std::vector<T> from = boot::detail::read_as<T>(file, t);
  boot::require(t.shape.size() == 4, "measure parity: tensor '{}' of '{}' is no image batch", name, file.path());
  const auto channels = static_cast<std::size_t>(t.shape[1]),
             pixels = static_cast<std::size_t>(t.shape[2] * t.shape[3]);
  std::vector<T> to(from.size());
  for (std::size_t i = 0; i < to.size(); ++i) {
    const std::size_t c = i % channels, p = i / channels % pixels, b = i / channels / pixels;
    to[i] = from[(b * channels + c) * pixels + p];
  }
  return to;
}

/// RMS of a - b relative to the RMS of b; infinite for a NaN.
template <class T>
double relative_rms(std::span<const T> a, const std::vector<double>& b) {
  boot::require(a.size() == b.size(), "measure parity: {} numbers were computed where the reference has {}", a.size(),
                b.size());
  double difference = 0, square = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    square += b[i] * b[i];
  }
  const double error = std::sqrt(difference / square);
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

/// A network whose input images are a parameter, so that they get a gradient.
template <class Network>
struct with_images {
  Network network;
  boot::parameter images;
  template <class V>
  void visit(V& v) {
    network.visit(v);
    v("images", images);
  }
};

struct figures {
  double output = 0, gradient = 0;
  std::string worst_gradient;
};

/// Forward and, where asked for, backward with the reference's inputs.
template <class T, class Network, class C>
figures compare(const cpu& dev, const boot::safetensors_file& file, const boot::network_model<Network, cpu, T>& model,
                const std::vector<double>& source, const std::vector<double>& target, const C& condition,
                bool differentiate) {
  using graph = boot::graph<T, cpu>;
  std::vector<T> x = image<T>(file, "in.sample");
  with_images<Network> n{model.network(), {}};
  n.images.extents = model.sample_shape().batched(static_cast<std::int64_t>(source.size()));
  boot::require(n.images.extents.size() == static_cast<std::int64_t>(x.size()),
                "measure parity: '{}' has {} numbers in in.sample, its model reads {}", file.path(), x.size(),
                boot::to_string(n.images.extents));
  boot::parameter_arena<T, cpu> arena(dev, boot::parameter_layout(n));
  boot::copy_parameters(dev, model.parameters().layout(), model.parameters().values(), arena);
  std::copy(x.begin(), x.end(), arena.value(n.images.index).data());
  boot::times_buffer<cpu, T> from, to;
  const auto& t_source = from.set(dev, model, std::span<const double>(source));
  const auto& t_target = to.set(dev, model, std::span<const double>(target));
  const auto code = [&](graph& g) { return n.network(g, g(n.images), t_source, t_target, condition); };

  figures f;
  graph g;
  g.begin(dev, graph{}.plan(dev, differentiate, arena.layout(), code), arena.layout(), arena.values(),
          arena.gradient());
  const auto y = code(g);
  const auto out = g.data(y);
  f.output = relative_rms(std::span<const T>(out.data(), static_cast<std::size_t>(out.size())),
                          image<double>(file, "out64.sample"));
  if (!differentiate) return f;

  const std::vector<T> cotangent = image<T>(file, "in.cotangent");
  g.backward(y, {cotangent.data(), out.extents()});
  const auto slope = arena.gradient(n.images.index);
  f.gradient = relative_rms(std::span<const T>(slope.data(), static_cast<std::size_t>(slope.size())),
                            image<double>(file, "grad64.sample"));
  f.worst_gradient = "sample";
  std::map<std::string, double> norms;  // by name, as the reference has them
  for (const auto& e : model.parameters().layout().entries()) {
    const auto part = arena.gradient(arena.layout().find(e.name));
    double square = 0;
    for (std::int64_t i = 0; i < part.size(); ++i) square += std::pow(static_cast<double>(part[i]), 2);
    norms[e.name] = std::sqrt(square);
  }
  const std::vector<double> reference = file.read<double>("grad64.norms");
  boot::require(norms.size() == reference.size(), "measure parity: '{}' has the norms of {} gradients, the network {}",
                file.path(), reference.size(), norms.size());
  double whole = 0;
  for (const double r : reference) whole += r * r;
  whole = std::sqrt(whole);
  std::size_t i = 0;
  for (const auto& [name, norm] : norms) {
    const double wanted = reference[i++];
    double error = std::abs(norm - wanted) / std::max(wanted, 1e-3 * whole);
    if (!std::isfinite(error)) error = std::numeric_limits<double>::infinity();
    if (error > f.gradient) {
      f.gradient = error;
      f.worst_gradient = name;
    }
  }
  return f;
}

/// A folder of diffusers' UNet2DModel.
template <class T>
figures unet2d_case(const cpu& dev, const fs::path& folder, bool differentiate) {
  const auto model = boot::read_unet2d<T>(dev, folder.string(), {}, {.time_scale = 1});
  const auto file = boot::safetensors_file::open((folder / "parity.safetensors").string());
  const auto& o = model.network().options();
  const auto numbers = [&](const char* name) { return boot::detail::read_as<double>(file, file.at(name)); };
  const std::vector<double> times = numbers("in.timestep");
  const std::vector<double> target = o.target_time ? numbers("in.class_labels") : times;
  if (o.classes == 0) return compare(dev, file, model, times, target, boot::no_condition{}, differentiate);
  std::vector<std::int32_t> ids;
  for (const std::int64_t id : file.read<std::int64_t>("in.class_labels")) ids.push_back(static_cast<std::int32_t>(id));
  const boot::class_labels<cpu> labels{{ids.data(), {static_cast<std::int64_t>(ids.size())}}};
  return compare(dev, file, model, times, target, labels, differentiate);
}

/// A folder of diffusers' DiTTransformer2DModel. Its id `classes` is the null class.
template <class T>
figures dit_case(const cpu& dev, const fs::path& folder, bool differentiate) {
  const auto model = boot::read_dit<T>(dev, folder.string(), {}, {.time_scale = 1, .drop_variance = false});
  const auto file = boot::safetensors_file::open((folder / "parity.safetensors").string());
  const std::vector<double> times = boot::detail::read_as<double>(file, file.at("in.timestep"));
  std::vector<std::int32_t> ids;
  for (const std::int64_t id : file.read<std::int64_t>("in.class_labels"))
    ids.push_back(id == model.network().options().classes ? -1 : static_cast<std::int32_t>(id));
  const boot::class_labels<cpu> labels{{ids.data(), {static_cast<std::int64_t>(ids.size())}}};
  return compare(dev, file, model, times, times, labels, differentiate);
}

/// The worst figures over the cases of one class of models.
struct family {
  figures worst;
  std::string worst_output, worst_gradient;
  int cases = 0;

  void take(const std::string& name, const figures& f) {
    if (cases == 0 || f.output > worst.output) worst.output = f.output, worst_output = name;
    if (cases == 0 || f.gradient > worst.gradient) worst.gradient = f.gradient, worst_gradient = name;
    ++cases;
  }
};

}  // namespace

int main(int argc, char** argv) try {
  boot::measure::measure_report report(
      "parity", {{"unet2d_output64", "<= 1e-10", "output of UNet2DModel in float64, relative RMS, worst case"},
                 {"unet2d_gradient64", "<= 1e-8", "its gradients by images and parameters, worst case"},
                 {"dit_output64", "<= 1e-10", "output of DiTTransformer2DModel in float64, relative RMS, worst case"}});
  const boot::measure::torch_peer torch(report);
  std::string set_given;
  report.app().add_option("--set", set_given, "a folder that parity.py has written, instead of the public set");
  if (const auto status = report.parse(argc, argv)) return *status;
  const cpu dev = report.device();
  const fs::path set = set_given.empty() ? public_set(torch, report.cache_folder()) : fs::path(set_given);
  boot::require(fs::is_directory(set), "measure parity: '{}' is no folder; give one that parity.py has written",
                set.string());
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(set))
    if (fs::exists(entry.path() / "config.json") && fs::exists(entry.path() / "parity.safetensors"))
      folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());

  family unets, dits;
  for (const fs::path& folder : folders) {
    const auto config = boot::measure::json::parse(*boot::measure::content_of(folder / "config.json"), nullptr, false);
    const std::string kind = config.is_object() ? config.value("_class_name", "") : "";
    const bool unet = kind == "UNet2DModel" && report.wants_any({"unet2d_output64", "unet2d_gradient64"});
    const bool dit = kind == "DiTTransformer2DModel" && report.wants("dit_output64");
    if (!unet && !dit) continue;
    const std::string name = folder.filename().string();
    figures f{std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity(), "not run"};
    figures single = f;
    try {
      f = unet ? unet2d_case<double>(dev, folder, report.wants("unet2d_gradient64"))
               : dit_case<double>(dev, folder, true);
      single = unet ? unet2d_case<float>(dev, folder, false) : dit_case<float>(dev, folder, false);
    } catch (const boot::error& reason) {  // one model that cannot be read must not hide the others
      fmt::print(stderr, "{}: {}\n", name, reason.what());
    }
    report.progress("{}: output {:.3g}, gradient {:.3g} ({}), output in float32 {:.3g}", name, f.output, f.gradient,
                    f.worst_gradient, single.output);
    const auto number = [](double v) {
      return std::isfinite(v) ? boot::measure::json(v) : boot::measure::json("failed");
    };
    report.beside(name, {{"output64", number(f.output)},
                         {"gradient64", number(f.gradient)},
                         {"worst_gradient", f.worst_gradient},
                         {"output32", number(single.output)}});
    (unet ? unets : dits).take(name, f);
    report.config("diffusers_version", config.value("_diffusers_version", "unknown"));
  }
  boot::require(unets.cases + dits.cases > 0,
                "measure parity: '{}' holds no UNet2DModel or DiTTransformer2DModel with parity.safetensors that the "
                "rows asked for need; give a folder that parity.py has written",
                set.string());
  report.config("set", set_given.empty() ? "public" : set_given);
  report.config("unet2d_cases", unets.cases);
  report.config("dit_cases", dits.cases);
  // Where the set has no model of a class its rows stay "not run".
  if (unets.cases > 0 && report.wants("unet2d_output64"))
    report.row("unet2d_output64", unets.worst.output, fmt::format("{} of {} cases", unets.worst_output, unets.cases));
  if (unets.cases > 0 && report.wants("unet2d_gradient64"))
    report.row("unet2d_gradient64", unets.worst.gradient,
               fmt::format("{} of {} cases", unets.worst_gradient, unets.cases));
  if (dits.cases > 0 && report.wants("dit_output64"))
    report.row("dit_output64", dits.worst.output, fmt::format("{} of {} cases", dits.worst_output, dits.cases));
  return report.finish();
} catch (const std::exception& reason) {
  fmt::print(stderr, "{}\n", reason.what());
  return 1;
}
