#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Code shown in the documentation is code that is compiled: a block of README.md or docs/*.md under a line

    <!-- example: tests/unit/schedule/noise_schedule_test.cpp custom-schedule -->

must equal what stands in that file between `// example: custom-schedule` and `// example-end: custom-schedule`; without a
name, the whole file less its licence line. Marks that headers point to must exist as well.

usage: examples.py SOURCE_DIR [--fix]      --fix writes the code into the documents
"""
import pathlib
import re
import sys
import textwrap


def excerpt(path, name):
    """The marked lines of a file, or None."""
    if not path.is_file():
        return None
    text = path.read_text()
    if not name:
        return re.sub(r"\A// SPDX[^\n]*\n", "", text).strip("\n")
    found = re.search(rf"^[ \t]*// example: {re.escape(name)}\n(.*?)^[ \t]*// example-end: {re.escape(name)}$", text,
                      re.DOTALL | re.MULTILINE)
    return textwrap.dedent(found[1]).strip("\n") if found else None


def main(root, fix):
    bad, shown = [], 0
    for document in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        if not document.is_file():
            continue
        text = document.read_text()

        def check(block):
            nonlocal shown
            shown += 1
            code = excerpt(root / block[2], block[3])
            if code is None:
                bad.append(f"{document.name}: no example {block[3] or ''} in {block[2]}")
                return block[0]
            if block[4].strip("\n") != code and not fix:
                bad.append(f"{document.name}: the code shown differs from {block[2]} {block[3] or ''}; "
                           f"python3 tests/lint/examples.py . --fix copies it")
            return f"{block[1]}\n```cpp\n{code}\n```"

        pattern = r"(<!-- example: (\S+)(?: (\S+))? -->)\n+```cpp\n(.*?)^```$"
        fixed = re.sub(pattern, check, text, flags=re.DOTALL | re.MULTILINE)
        marks = len(re.findall(r"<!-- example: ", text))
        if marks != len(re.findall(pattern, text, re.DOTALL | re.MULTILINE)):
            bad.append(f"{document.name}: a line `<!-- example: file name -->` has no ```cpp block under it")
        if fix and fixed != text:
            document.write_text(fixed)

    for header in sorted((root / "include").rglob("*.[hc]*")):
        for path, name in re.findall(r'(tests/\S+?\.cpp),?\s+(?:/// )?mark "example: (\S+?)"', header.read_text()):
            if excerpt(root / path, name) is None:
                bad.append(f"{header.name}: points to the example {name}, which is not in {path}")
    print("\n".join(bad) if bad else f"{shown} examples shown are the ones compiled")
    return 1 if bad else 0


sys.exit(main(pathlib.Path(sys.argv[1]), "--fix" in sys.argv[2:]))
