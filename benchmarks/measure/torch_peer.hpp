// SPDX-License-Identifier: MIT
/// The PyTorch scripts that measures run side by side with the library: where they are, and a Python that can run them.
#pragma once

#include "measure.hpp"

namespace boot::measure {

/// Finds the scripts and their Python by an option, a variable of the environment, or in the usual place.
class torch_peer {
 public:
  /// Adds --peers and --python to a measure's command line.
  explicit torch_peer(measure_report& report) : root_(report.root()) {
    report.app().add_option("--peers", peers_, "folder of the PyTorch scripts (BOOT_PEERS, ../shared/peers)");
    report.app().add_option("--python", python_, "a Python with torch (BOOT_PEER_PYTHON, build/peer_venv)");
  }
  torch_peer(const torch_peer&) = delete;
  torch_peer& operator=(const torch_peer&) = delete;

  /// The path of a script; throws boot::error saying how to get it.
  [[nodiscard]] std::string script(const std::string& name) const {
    const std::filesystem::path file = folder() / name;
    require(std::filesystem::exists(file),
            "measure: no {} in '{}'; this measure runs PyTorch scripts side by side with boot: put their folder, with "
            "its requirements.txt, there, or name it by --peers DIR or BOOT_PEERS",
            name, folder().string());
    return std::filesystem::weakly_canonical(file).string();
  }

  /// A Python with PyTorch: the one that was named, or one in build/peer_venv, made from the scripts' requirements.
  /// Throws boot::error saying how to make one by hand.
  [[nodiscard]] std::string python() const {
    const auto works = [](const std::string& p) {
      return output_of(shell_word(p) + " -c 'import torch, diffusers, safetensors' 2>&1").has_value();
    };
    const std::string requirements = (folder() / "requirements.txt").string();
    if (const std::string named = setting(python_, "BOOT_PEER_PYTHON"); !named.empty()) {
      require(works(named),
              "measure: '{}' cannot import torch, diffusers and safetensors; install {} with it, or leave --python and "
              "BOOT_PEER_PYTHON out to have build/peer_venv made",
              named, requirements);
      return named;
    }
    const std::filesystem::path venv = root_ / "build" / "peer_venv";
    std::string made = (venv / "bin" / "python").string();
    if (std::filesystem::exists(made) && works(made)) return made;
    fmt::print(stderr, "measure: installing {} into {}, which takes minutes\n", requirements, venv.string());
    const std::string command = "{ python3 -m venv " + shell_word(venv.string()) + " && " + shell_word(made) +
                                " -m pip install -q -r " + shell_word(requirements) + "; } 1>&2";
    require(output_of(command).has_value() && works(made),
            "measure: could not make a Python with PyTorch in '{}' (messages above); make one by hand "
            "(python3 -m venv DIR && DIR/bin/pip install -r {}) and name it by --python DIR/bin/python",
            venv.string(), requirements);
    return made;
  }

 private:
  static std::string setting(const std::string& given, const char* variable) {
    if (!given.empty()) return given;
    const char* const value = std::getenv(variable);
    return value == nullptr ? "" : value;
  }
  [[nodiscard]] std::filesystem::path folder() const {
    const std::string named = setting(peers_, "BOOT_PEERS");
    return named.empty() ? root_ / ".." / "shared" / "peers" : std::filesystem::path(named);
  }

  std::filesystem::path root_;
  std::string peers_, python_;
};

}  // namespace boot::measure
