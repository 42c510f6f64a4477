"""The planted bugs of tests/planted/*.toml, and the instrumented copy of the sources that holds them all.

A bug is a table `[[bug]]`:

    name      switches it on, in the environment variable RING9_PLANTED
    file      from the root of the repository; an edit may name another one
    row       the row of docs/hostile-inputs.md or the trap of publishing that it stands for
    what      what is wrong, in a sentence
    find      text that occurs exactly once in `file`. If a part of it is between « and », that part is replaced, and
              the rest only says where it is. The part is an expression, or whole statements
    replace   what stands there while the bug is on
    also      more edits `[[bug.also]]` with `find` and `replace`, for a bug in several places. One with
              `always = true` is made whether the bug is on or not: it adds an item that the bug needs

In the copy each part becomes `if crate::planted::is_on(N) { replace } else { part }`, so that one build has all bugs.
Bugs may share a part; parts that overlap in any other way are an error, and so is a text that does not occur once.
"""

import dataclasses
import difflib
import glob
import os
import shutil
import tomllib

BEGIN, END = "«", "»"
# Neither sources nor data of a test: other workspaces are not built here.
LEFT_OUT = {".git", "target", "results", "baselines"}
# Sections of docs/hostile-inputs.md that have planted bugs. Beside them, the traps of publishing.
SECTIONS, TRAPS = "ABCDEFGHIK", 5

IS_ON = """//! Which planted bug is on. Written by tests/e2e/plant.py.

const NAMES: &[&str] = &[
%s];

/// Whether the bug with this number is the one that RING9_PLANTED names.
pub(crate) fn is_on(number: usize) -> bool {
    static ON: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    *ON.get_or_init(|| {
        let name = std::env::var("RING9_PLANTED").ok()?;
        Some(NAMES.iter().position(|known| *known == name).expect("RING9_PLANTED names a planted bug"))
    }) == Some(number)
}
"""


@dataclasses.dataclass
class Edit:
    bug: int
    file: str
    start: int
    end: int
    replace: str
    always: bool


class Wrong(Exception):
    """What is wrong with the data, a line for each fault."""


def read(root):
    """All bugs, in the order of the files and of their lines."""
    bugs, wrong, names = [], [], set()
    for path in sorted(glob.glob(os.path.join(root, "tests/planted/*.toml"))):
        place = os.path.relpath(path, root)
        with open(path, "rb") as file:
            try:
                listed = tomllib.load(file)
            except tomllib.TOMLDecodeError as error:
                raise Wrong(f"{place}: {error}") from None
        for bug in listed.get("bug", []):
            name = bug.get("name", "?")
            missing = {"name", "file", "row", "what", "find", "replace"} - bug.keys()
            unknown = bug.keys() - {"name", "file", "row", "what", "find", "replace", "also"}
            if missing or unknown:
                wrong.append(f"{place}: {name}: missing {sorted(missing)}, unknown {sorted(unknown)}")
            if name in names:
                wrong.append(f"{place}: {name}: there is another bug of this name")
            names.add(name)
            bugs.append(bug)
    for section in SECTIONS:
        if sum(bug.get("row", "").startswith(section) for bug in bugs) < 2:
            wrong.append(f"section {section} of docs/hostile-inputs.md has fewer than two planted bugs")
    if sum(bug.get("row", "").startswith("trap: ") for bug in bugs) < TRAPS:
        wrong.append(f"fewer than {TRAPS} planted bugs stand for traps of publishing")
    if wrong:
        raise Wrong("\n".join(wrong))
    return bugs


def nearest(text, find):
    """The lines of a file that are most like a text that is not there: the first one's number, and what they say."""
    lines, count = text.splitlines(), len(find.splitlines())
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(" ".join(find.split()))
    best = (0.0, 0, 0)
    # Formatting may have joined or parted lines.
    for length in {max(1, count - 1), count, count + 1}:
        for at in range(max(1, len(lines) - length + 1)):
            matcher.set_seq1(" ".join(" ".join(lines[at : at + length]).split()))
            if matcher.real_quick_ratio() > best[0] and matcher.quick_ratio() > best[0]:
                best = max(best, (matcher.ratio(), at, length))
    _, at, length = best
    return at + 1, "\n".join(lines[at : at + length])


def edits(root, bugs):
    """Where each bug is; raises Wrong with all texts that are not there once, or that overlap."""
    texts, found, wrong = {}, [], []
    for number, bug in enumerate(bugs):
        for edit in [bug, *bug.get("also", [])]:
            file, marked = edit.get("file", bug["file"]), edit["find"]
            if file not in texts:
                try:
                    texts[file] = open(os.path.join(root, file), encoding="utf-8").read()
                except OSError as error:
                    wrong.append(f"{bug['name']}: {file}: {error.strerror}")
                    texts[file] = None
            text = texts[file]
            if text is None:
                continue
            before, begin, rest = marked.partition(BEGIN)
            part, end, after = rest.partition(END) if begin else (before, END, "")
            if not end or BEGIN in part + after or END in after:
                wrong.append(f"{bug['name']}: {file}: the text must have one {BEGIN} and one {END} behind it, or none")
                continue
            before = before if begin else ""
            find = before + part + after
            count = text.count(find)
            if count != 1:
                said = f"{bug['name']}: {file}: the text occurs {count} times, and must occur once:\n{find}"
                if count == 0:
                    line, there = nearest(text, find)
                    said += f"\nnearest, at line {line}:\n{there}"
                wrong.append(said)
                continue
            start = text.index(find) + len(before)
            found.append(Edit(number, file, start, start + len(part), edit["replace"], edit.get("always", False)))
    found.sort(key=lambda edit: (edit.file, edit.start, edit.end, edit.bug))
    for one, next_one in zip(found, found[1:]):
        same = (one.start, one.end) == (next_one.start, next_one.end) and not one.always and not next_one.always
        if one.file == next_one.file and next_one.start < one.end and not same:
            names = f"{bugs[one.bug]['name']} and {bugs[next_one.bug]['name']}"
            wrong.append(f"{names}: {one.file}: the parts that they replace overlap")
    if wrong:
        raise Wrong("\n\n".join(wrong))
    return found


def switchable(part, bugs):
    """Code that is `part` unless one of these bugs is on."""
    chain = "".join(f"if crate::planted::is_on({bug}) {{ {replace} }} else " for bug, replace in bugs)
    code = f"{chain}{{ {part} }}"
    return code if part.rstrip().endswith((";", "}")) else f"({code})"


def instrumented(root, found):
    """The files that change, by their path from the root."""
    changed = {}
    for file in sorted({edit.file for edit in found}):
        text, out, at = open(os.path.join(root, file), encoding="utf-8").read(), [], 0
        here = [edit for edit in found if edit.file == file]
        for start, end in sorted({(edit.start, edit.end) for edit in here}):
            same = [edit for edit in here if (edit.start, edit.end) == (start, end)]
            part = text[start:end]
            new = same[0].replace if same[0].always else switchable(part, [(edit.bug, edit.replace) for edit in same])
            out += [text[at:start], new]
            at = end
        changed[file] = "".join([*out, text[at:]])
    return changed


def write(path, content):
    """Writes a file unless it has that content: cargo looks at times."""
    try:
        if open(path, "rb").read() == content:
            return
    except OSError:
        pass
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def copy(root, to):
    """Writes the instrumented copy of the repository into a folder, and returns the bugs."""
    bugs = read(root)
    changed = {file: text.encode() for file, text in instrumented(root, edits(root, bugs)).items()}
    names = "".join(f'    "{bug["name"]}",\n' for bug in bugs)
    changed["src/planted.rs"] = (IS_ON % names).encode()
    library = changed.get("src/lib.rs") or open(os.path.join(root, "src/lib.rs"), "rb").read()
    # The parts stand in parentheses of their own.
    changed["src/lib.rs"] = b"#![allow(unused_parens)]\n" + library + b"\nmod planted;\n"
    kept = set()
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), root)
            if path not in changed and os.path.isfile(os.path.join(root, path)):
                changed[path] = None
    for path, content in changed.items():
        target = os.path.join(to, path)
        write(target, open(os.path.join(root, path), "rb").read() if content is None else content)
        if content is None:
            shutil.copymode(os.path.join(root, path), target)
        kept.add(path)
    for folder, _, files in os.walk(to):
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), to)
            if path not in kept:
                os.remove(os.path.join(to, path))
    return bugs
