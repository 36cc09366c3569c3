#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The values in README.md's table of figures are those of benchmarks/results/NAME.json, and only those.

usage: figures.py SOURCE_DIR [--fix]      --fix writes the values into the table
"""
import json
import pathlib
import re
import sys


def shown(value):
    """Three significant digits; counts as they are."""
    return str(int(value)) if float(value).is_integer() else f"{value:.3g}"


def main(root, fix):
    readme = root / "README.md"
    lines, name, inside, wrong = readme.read_text().split("\n"), None, False, []
    seen = set()
    for i, line in enumerate(lines):
        inside = (inside or line.startswith("<!-- figures:")) and line != "<!-- figures: end -->"
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] if inside else []
        if len(cells) != 5 or cells[0] in ("command", "---"):
            continue
        if found := re.search(r"measure (\w+)", cells[0]):
            name = found[1]
        key = cells[1].strip("`")
        path = root / "benchmarks" / "results" / f"{name}.json"
        row = json.loads(path.read_text())["rows"].get(key) if path.is_file() else None
        value = "" if row is None or row["value"] is None else shown(row["value"]) + ("" if row["holds"] else " (missed)")
        seen.add((name, key))
        if cells[4] != value:
            wrong.append(f"README.md:{i + 1}: {name} {key} says '{cells[4]}', the results say '{value}'")
            lines[i] = line[: line.rstrip().rstrip("|").rstrip().rfind("|")] + f"| {value} |" if value else line
    for path in sorted((root / "benchmarks" / "results").glob("*.json")):
        for key in json.loads(path.read_text()).get("rows", {}):
            if (path.stem, key) not in seen:
                wrong.append(f"README.md: no row for {path.stem} {key} in the table of figures")
    if not seen:
        wrong.append("README.md: no table between '<!-- figures: ... -->' and '<!-- figures: end -->'")
    if fix:
        readme.write_text("\n".join(lines))
        print(f"{len(wrong)} values written")
        return 0
    print("\n".join(wrong) if wrong else f"{len(seen)} figures agree with benchmarks/results")
    if wrong:
        print("copy them with: python3 tests/lint/figures.py . --fix")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), "--fix" in sys.argv[2:]))
