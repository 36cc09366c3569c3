#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What doxygen reads instead of a header. Lines keep their numbers.

- The inline namespace is a detail of linking, not of the reference.
- `float a, b;  ///< text` documents a and b alike.
- `<S>` in a comment is a template argument, not HTML.
- Copy and move members, and what is defaulted or deleted, need no comment of their own.
"""
import re
import sys



def escape_angles(comment):
    parts = comment.split("`")  # between backticks doxygen leaves them alone
    return "`".join(part if i % 2 else re.sub(r"<(?=[A-Za-z/])", r"\\<", part) for i, part in enumerate(parts))


documented = False
for line in open(sys.argv[1], encoding="utf-8"):
    line = line.rstrip("\n").replace("namespace boot::inline v0", "namespace boot")
    if "///" in line:
        code, mark, comment = re.match(r"(.*?)(///<?)(.*)$", line).groups()
        line = code + mark + escape_angles(comment)
    several = re.match(r"(\s*)((?:const |static |inline |constexpr |std::)*[\w:<>, ]+?[\w>][*&]*) (\w+(?:\[\w+\])?(?: = [^,;()]+|\{[^;{}]*\})?(?:, \*?\w+(?:\[\w+\])?(?: = [^,;()]+|\{[^;{}]*\})?)+);\s*///< (.*)$", line)
    if several:
        indent, kind, names, text = several.groups()
        text = text.replace("*/", "* /")
        line = indent + " ".join(f"{kind} {name}; /**< {text} */" for name in re.split(r", (?=\*?\w+(?:$|[\[ {,]))", names))
    special = re.match(r"\s*(?:constexpr |inline |explicit )*(?:(\w+)\((?:const )?\1(?:<[\w, ]+>)?(?: ?&&| ?&|\))|[\w<>, ]+&? ?operator=\()", line)
    defaulted = re.search(r"\)[^;{]* = (?:default|delete);", line)
    if (special or defaulted) and not documented and "///<" not in line:
        indent = re.match(r"\s*", line)[0]
        line = f"{indent}/** As usual for a value. */ {line.lstrip()}"
    documented = line.lstrip().startswith("///") or (documented and line.lstrip().startswith(("template", "requires")))
    print(line)
