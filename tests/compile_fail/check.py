#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles one file twice: as it is (the control, must compile) and with BOOT_EXPECT_FAIL defined (must not compile,
and every `// expect: text` of the file must be in the compiler's output).

usage: check.py compile_commands.json file.cpp
"""
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys


def compiler_flags(commands):
    """The command line of lends_its_flags.cpp, without a compiler launcher, input and output."""
    for entry in json.loads(pathlib.Path(commands).read_text()):
        if entry["file"].endswith("lends_its_flags.cpp"):
            words = shlex.split(entry["command"])
            if os.path.basename(words[0]) == "ccache":
                words = words[1:]
            cut = words.index("-o")
            return words[:cut]
    sys.exit(f"{commands}: no entry for lends_its_flags.cpp; configure the build again")


def main():
    flags = compiler_flags(sys.argv[1])
    source = sys.argv[2]
    expected = re.findall(r"^// expect: (.+?)\s*$", pathlib.Path(source).read_text(), re.MULTILINE)
    if not expected:
        print(f"{source}: no line `// expect: text` says what the compiler must print")
        return 1

    def compile_once(*extra):
        command = [*flags, *extra, "-fsyntax-only", "-fdiagnostics-color=never", source]
        result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
        # The source lines that the compiler quotes would contain the text of a static_assert whether it fired or not.
        messages = [line for line in (result.stdout + result.stderr).splitlines() if not re.match(r"\s*\d*\s+\|", line)]
        return result.returncode, "\n".join(messages)

    code, output = compile_once()
    if code != 0:
        print(f"{source}: the control (without BOOT_EXPECT_FAIL) must compile, but does not:\n{output}")
        return 1
    code, output = compile_once("-DBOOT_EXPECT_FAIL")
    if code == 0:
        print(f"{source}: compiles with BOOT_EXPECT_FAIL, but must not")
        return 1
    missing = [text for text in expected if text not in output]
    for text in missing:
        print(f"{source}: expected in the compiler's output, but not there: {text}")
    if missing:
        print(output)
    return 1 if missing else 0


sys.exit(main())
