"""What the docs say of ring9 beside async runtimes is what the committed result says: blocks between `<!-- runtimes: NAME -->` and `<!-- end -->`, and numbers of loads.

The result is in the folder under bench/results that docs/runtimes.md links to.

Usage: results.py REPOSITORY            checks all of it, and where the result is from
       results.py REPOSITORY --write    puts the blocks in place, then checks
"""

import difflib
import os
import re
import statistics
import subprocess
import sys
from collections import Counter

import resultfile
from roster import BASELINES

README, RUNTIMES, PAGE_12 = "README.md", "docs/runtimes.md", "docs/decisions/12-what-a-loop-can-save.md"
SHAPES = "bench/src/runtimes/shapes.rs"
# The docs write the number of baselines as a word.
NUMBERS = "none one two three four five six seven eight nine ten eleven twelve".split()
# Of the README's table, in its order: the load, and what it is called there.
LOADS = [
    ("tcp-64-read-4k", "64 TCP connections"),
    ("unix-64-read-4k", "64 unix"),
    ("tcp-1-read-4k", "1 TCP"),
    ("one-cpu-1x16-read-4k", "1 unix, depth 16, one cpu"),
    ("tcp-1x4-write-1m", "writes of 1 MB, 1 TCP, depth 4"),
]
# Of page 12, likewise; those with many connections first.
MANY = [("tcp-64-read-4k", "64 TCP connections, 4 KiB reads, a cpu each"), ("unix-64-read-4k", "64 unix"), ("tcp-256-read-4k", "256 TCP")]
DEEP = "one-cpu-1x16-read-4k"
ONE = [("one-cpu-1-read-4k", "1 unix, depth 1, one cpu"), (DEEP, "1 unix, depth 16, one cpu")]
BULK, CROWD, SPINNING, IDLE = "tcp-16-read-4k-beside-bulk", "tcp-1000-read-4k", "tcp-1-read-4k-spinning", "tcp-64-read-4k-beside-10000-idle"
IDIOMATIC = [("tcp-64-read-4k-idiomatic", "64 TCP connections that read 4 KiB"), ("tcp-1x4-read-1m-idiomatic", "one that reads 1 MB, 4 in flight")]
# As in bench/src/result/warning.rs.
GENERATOR_CPU_MAX, ACHIEVED_MIN = 0.7, 0.995
# What is worse by less in p50 is no loss to speak of: times have three digits.
P50_LOSS = 1.03
CALLED = {"throughput": "operations", "cpu": "cpu", "p50": "p50", "p99": "p99"}
# One that does not end is none, and reaches into no other.
BLOCK = re.compile(r"<!-- runtimes: ([a-z0-9-]+) -->\n((?:(?!<!--).)*)<!-- end -->", re.S)

passed = failed = 0


def check(what: str, holds: bool, found: object = "") -> None:
    global passed, failed
    passed, failed = passed + holds, failed + (not holds)
    print("ok  " if holds else "FAIL", what, "" if holds else found, flush=True)


class Load:
    """A load of the result."""

    def __init__(self, shape: dict) -> None:
        comparison = shape["comparison"]
        self.id, self.plan, self.verdicts = shape["id"], comparison["plan"], comparison["verdicts"]
        self.revision, self.idle = comparison["environment"]["ring9-bench"], shape["idle_connections"]
        self.contenders = {one["name"]: one["rounds"] for one in comparison["contenders"]}
        self.spoilt = {one["name"]: one["spoilt"] for one in comparison["contenders"]}
        self.first = comparison["contenders"][0]["name"]
        self.medians = {(one["of"], one["to"], one["statistic"]): one["median"] for one in comparison["ratios"]}

    def baselines(self) -> list[str]:
        """That ring9 was measured beside."""
        return [server for server in BASELINES if self.of_first(server, "throughput")]

    def is_bound(self, server: str) -> bool:
        """Whether most of its rounds say how quick the generator is; as in bench/src/result/comparison.rs."""
        rounds = self.contenders[server]
        return not self.plan["open_loop"] and 2 * sum(one["generator_cpu"] > GENERATOR_CPU_MAX for one in rounds) > len(rounds)

    def is_late(self) -> bool:
        """Whether operations were sent late in most rounds of any."""
        return any(2 * self.spoilt[name].get("late", 0) > len(rounds) for name, rounds in self.contenders.items())

    def of_first(self, to: str, statistic: str) -> dict | None:
        return self.medians.get((self.first, to, statistic))

    def of_rounds(self, one: str, other: str) -> float:
        """The median of one's cpu by the other's, round by round."""
        rounds = zip(self.contenders[one], self.contenders[other])
        return statistics.median(this["cpu_us"] / that["cpu_us"] for this, that in rounds if this["cpu_us"] and that["cpu_us"])

    def losses(self) -> list[tuple[float, str]]:
        """Of the baselines that ring9 is behind: by how much at most, and in what. Who is held back by the generator does more than was seen, so where it is ring9 alone the loss may be the
        generator's; where it is both they are further apart than they seem."""
        found = []
        for to in self.baselines():
            bound, worst, words = (self.is_bound(self.first), self.is_bound(to)), 1.0, []
            for statistic, name in (("throughput", "ops"), ("cpu", "cpu"), ("p50", "p50")):
                # Where ring9 looks for work all the time its cpu says nothing.
                if self.id == SPINNING and statistic == "cpu":
                    continue
                median = self.of_first(to, statistic)
                if median is None or median["interval"] is None or statistic != "cpu" and bound == (True, False):
                    continue
                (low, high), value = median["interval"], median["value"]
                if high < 1 if statistic == "throughput" else low > 1 and (statistic == "cpu" or value >= P50_LOSS):
                    worst = max(worst, 1 / value if statistic == "throughput" else value)
                    words.append(f"{in_words(median)} {name}{'*' if statistic != 'cpu' and any(bound) else ''}")
            if words:
                found.append((worst, f"{to} {', '.join(words)}"))
        return sorted(found, reverse=True)


class Result:
    def __init__(self, repository: str, folder: str) -> None:
        self.folder, self.raw = folder, resultfile.read(os.path.join(repository, folder))
        self.loads = {shape["id"]: Load(shape) for shape in self.raw["shapes"]}
        known = open(os.path.join(repository, SHAPES)).read().split("Shape {")
        ids = [(re.search(r'\bid: "([^"]+)"', text), "quick: true" in text) for text in known]
        self.known, self.quick = [found[1] for found, _ in ids if found], [found[1] for found, quick in ids if found and quick]


def in_words(median: dict) -> str:
    low, high = median["interval"] or (None, None)
    return f"{median['value']:.2f}" + ("" if low is None else f" ({low:.2f}–{high:.2f})")


def time(ns: float | None) -> str:
    """As in bench/src/result/words.rs."""
    if ns is None:
        return "-"
    value, unit = (ns / 1e3, "us") if ns < 1e6 else (ns / 1e6, "ms")
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(row) + " |" for row in rows)]


def behind(result: Result) -> tuple[int, int]:
    """Pairs of a load and a baseline in which ring9 is, and all of them."""
    return sum(len(load.losses()) for load in result.loads.values()), sum(len(load.baselines()) for load in result.loads.values())


def readme(result: Result) -> list[str]:
    def cell(load: Load, to: str) -> str:
        throughput, cpu = load.of_first(to, "throughput"), load.of_first(to, "cpu")
        if throughput is None or cpu is None:
            return "-"
        return f"{throughput['value']:.2f}{'*' if load.is_bound(load.first) or load.is_bound(to) else ''}, {cpu['value']:.2f}"

    rows = [[to, *(cell(result.loads[load], to) for load, _ in LOADS)] for to in BASELINES + ["epoll-floor", "ring-floor"]]
    losses, pairs = behind(result)
    return [
        *table(["ring9 to", *(name for _, name in LOADS)], rows),
        "",
        "`*`: the generator was the limit of one of the two servers, or of both (over 70 % of its cpu in more than half of their rounds); cpu can be compared all the same.",
        "",
        f"All {len(result.loads)} loads, with intervals: [tables.txt]({result.folder}/tables.txt). In {losses} of {pairs} pairs of a load and one of the {NUMBERS[len(BASELINES)]}, ring9 is behind in operations, cpu or p50:"
        " [docs/runtimes.md](docs/runtimes.md) names them all, and says how they are measured.",
    ]


def measured(result: Result) -> list[str]:
    environment, loads = result.raw["environment"], result.loads.values()
    rounds = Counter(len(next(iter(load.contenders.values()))) for load in loads)
    lasting = sorted({round(load.plan["duration_s"] * 1000) for load in loads})
    younger = [name for name in result.known if name not in result.loads]
    words = [
        f"{len(result.loads)} loads" + (f" (not yet {listed([f'`{name}`' for name in younger])})" if younger else ""),
        f"rounds of {listed([str(ms) for ms in lasting])} ms, {listed([f'{count} in {times} of them' for count, times in rounds.most_common()])}",
        f"begun on {result.raw['began'][:10]} by ring9-bench {environment['ring9-bench'].removesuffix(' release')}",
        f"on Linux {environment['kernel'].split('-')[0]}, {environment['cpu']}, {'a virtual machine' if environment.get('virtualisation') == 'a guest' else 'a machine'} with cpus {environment['cpus']}",
    ]
    return [
        "; ".join(words) + ".",
        f"Tables of all: [tables.txt](../{result.folder}/tables.txt). `ring9-bench report {result.folder} --out DIR` draws them.",
        "",
        "Ratios are of ring9 to another, with intervals of 95 %; `*` says that the generator was the limit of one of the two, or of both.",
    ]


def losses(result: Result) -> list[str]:
    found = [(load.losses(), load.id) for load in result.loads.values()]
    found.sort(key=lambda one: one[0][0][0] if one[0] else 0, reverse=True)
    count, pairs = behind(result)
    nowhere = [f"`{name}`" for one, name in found if not one and result.loads[name].baselines()]
    return [
        f"In {count} of {pairs} pairs of a load and a baseline the whole interval is on the wrong side of 1 in operations, in cpu, or in p50 with a median of {P50_LOSS} or more. The worst first:",
        "",
        *(f"- `{name}`: {'; '.join(words for _, words in one)}" for one, name in found if one),
        "",
        f"In none: {listed(nowhere)}." if nowhere else "There is no load without any.",
    ]


def goals(result: Result) -> list[str]:
    rows, kinds, excused = [], Counter(), 0
    for load in result.loads.values():
        for number, judged in enumerate(load.verdicts):
            goal, of, to = judged["goal"], judged["of"] or load.first, judged["to"]
            statistic, _, wanted = goal.partition(" ")
            verdict, why = judged["verdict"], judged.get("why")
            kinds[verdict], excused = kinds[verdict] + 1, excused + bool(why)
            pair = f"to {to}" if of == load.first else f"of {of} to {to}"
            verdict = f"**{verdict}**" if verdict == "missed" else f"{verdict}: generator" if why else verdict
            mark = "*" if statistic != "cpu" and (load.is_bound(of) or load.is_bound(to)) else ""
            rows.append(["" if number else f"`{load.id}`", f"{CALLED[statistic]} {pair}", wanted, in_words(load.medians[of, to, statistic]) + mark, verdict])
    return [
        f"Of {len(rows)} goals {kinds['met']} are met, {kinds['missed']} missed, {kinds['undecided']} undecided ({excused} of these since the generator is the limit).",
        "",
        *table(["load", "ratio", "goal", "median", "verdict"], rows),
    ]


def special(result: Result) -> list[str]:
    """Loads that are about something else than many operations."""
    lines = []
    if load := result.loads.get(BULK):
        def bulk(server: str) -> str:
            values = [one["bulk_per_s"] for one in load.contenders[server] if one.get("bulk_per_s") is not None]
            return f"{statistics.median(values):,.0f}" if values else "-"

        ratios = [f"{in_words(load.of_first(to, 'throughput'))} of {to}" if load.of_first(to, "throughput") else f"{to} none" for to in BASELINES]
        lines.append(f"- `{BULK}`, operations of the small ones: {', '.join(ratios)}. The large one, MB a second by a window of its own that ends a little after theirs: {', '.join(f'{server} {bulk(server)}' for server in load.contenders)}.")
    for name, called in IDIOMATIC:
        if load := result.loads.get(name):
            others = [to for to in load.contenders if to != load.first]
            mark = {to: "*" if load.is_bound(load.first) or load.is_bound(to) else "" for to in others}
            ratios = [f"{in_words(load.of_first(to, 'throughput'))}{mark[to]}, {in_words(load.of_first(to, 'cpu'))} of {to.removesuffix('-idiomatic')}" for to in others]
            lines.append(f"- The tier that users of a runtime write first, {called}; operations, cpu: {'; '.join(ratios)}.")
    if load := result.loads.get(SPINNING):
        ratios = [f"{in_words(load.of_first(to, 'p50'))} of {to}'s" for to in ("epoll", "spinning-floor")]
        lines.append(f"- `{SPINNING}`, p50: {', '.join(ratios)}.")
    if load := result.loads.get(IDLE):
        pairs = [(of, to) for of, to, statistic in load.medians if statistic == "p50"]
        ratios = [f"{of} {', '.join(f'{statistic} {in_words(load.medians[of, to, statistic])}' for statistic in ('p50', 'p99', 'cpu'))}" for of, to in pairs]
        lines.append(f"- `{IDLE}`, {load.plan['rate']:,.0f} operations a second, with {load.idle:,} idle connections to without: {'; '.join(ratios)}.{' Operations were sent late in most rounds, which draws p99 towards 1.' if load.is_late() else ''}")
    return lines


def profile(result: Result) -> list[str]:
    crowd = result.loads.get(CROWD)

    def per_connection(name: str, what: str) -> float | None:
        rounds = [one.get(what) for one in crowd.contenders.get(name, [])] if crowd else []
        rounds = [one for one in rounds if one is not None]
        return statistics.median(rounds) / 1024 if rounds else None

    columns = [
        ("threads", 0, lambda server: server["threads"]),
        ("idle us/s", 0, lambda server: server["idle_cpu_us"]),
        ("calls/op", 2, lambda server: server["syscalls_per_operation"]),
        ("KiB/connection of 1,000", 1, lambda server: per_connection(server["name"], "bytes_per_connection")),
        ("after load", 1, lambda server: per_connection(server["name"], "loaded_bytes_per_connection")),
        ("lines", 0, lambda server: server["lines"]),
        ("crates", 0, lambda server: server["crates"]),
        ("KiB of program", 0, lambda server: server["binary_bytes"] and server["binary_bytes"] >> 10),
    ]
    rows, more = [[server["name"]] for server in result.raw["servers"]], []
    for name, digits, of in columns:
        values = [of(server) for server in result.raw["servers"]]
        for row, value in zip(rows, values):
            row.append("-" if value is None else f"{value:,.{digits}f}")
        known = [(value, row[0], row[-1]) for value, row in zip(values, rows) if value is not None]
        least, own = min(known, default=None), next((text for _, server, text in known if server == "ring9"), None)
        if own and own != least[2]:
            more.append(f"{name} ({own}; {listed([server for _, server, text in known if text == least[2]])}: {least[2]})")
    return [*table(["server", *(name for name, _, _ in columns)], rows), "", f"Where ring9 does not have the least: {'; '.join(more)}." if more else "ring9 has the least of each."]


def between(held: dict) -> str:
    """The interval of its p99."""
    interval = held.get("p99_interval_ns")
    return f" ({time(interval[0])}–{time(interval[1])})" if interval else ""


def open_loops(result: Result) -> list[str]:
    shares = [(0.5, "50 % of its most"), (0.95, "95 %"), (None, "one rate for all")]
    aims = sorted({(one["objective"]["p"], one["objective"]["at_most_ns"]) for one in result.raw["objectives"]})
    rows = []
    for server in result.raw["servers"]:
        row = [server["name"]]
        for share, _ in shares:
            held = next((one for one in result.raw["rates"] if one["server"] == server["name"] and one["share"] == share), None)
            late = f" ({held['achieved'] * 100:.1f} % done)" if held and held["achieved"] < ACHIEVED_MIN else ""
            bound = "*" if held and 2 * held.get("spoilt", {}).get("late", 0) > held.get("rounds", 0) else ""
            row.append(f"{held['rate'] / 1000:.0f}{bound}: {time(held['p50_ns'])}, {time(held['p99_ns'])}{between(held)}{late}" if held else "-")
        for aim in aims:
            borne = [one for one in result.raw["objectives"] if one["server"] == server["name"] and (one["objective"]["p"], one["objective"]["at_most_ns"]) == aim]
            edge, mark = (borne[0]["edge"], "*" if borne[0].get("by_generator") else "") if borne else (None, "")
            row.append((f"{edge['holds'] / 1000:.0f} to {edge['ends'] / 1000:.0f}" if edge["ends"] else f"{edge['holds'] / 1000:.0f} and more") + mark if edge else "-")
        rows.append(row)
    head = ["server", *(name for _, name in shares), *(f"most with p{p * 100:g} of at most {time(at_most)}" for p, at_most in aims)]
    first = next(iter(result.raw["rates"]), {})
    rounds = f", medians of {first['rounds']} rounds" if first.get("rounds") else ""
    return [
        f"4 KiB reads over 64 TCP connections with room for four at a time each; rates in thousands of operations a second: p50, and p99 with its interval{rounds}. A server's most is that of a closed loop of these connections, one operation on each. The last column: the highest rate at"
        " which, and at all below, most rounds kept to the objective, and the next one that was tried. `*`: in most rounds operations were sent late (over a quarter of p99 had passed), so that times are in part the generator's.",
        "",
        *table(head, rows),
    ]


def page_12(result: Result) -> list[str]:
    rows = []
    for name, called in MANY + ONE:
        load = result.loads[name]
        floor = statistics.median(one["cpu_us"] for one in load.contenders["ring-floor"])
        rows.append([called, f"{floor:.2f} us", *(f"{load.of_rounds(other, 'ring-floor'):.2f}" for other in ("epoll-floor", "ring9", "epoll", "tokio"))])
    many = sorted(result.loads[name].of_rounds("ring9", "ring-floor") for name, _ in MANY)
    floors = sorted(result.loads[name].of_rounds("epoll-floor", "ring-floor") for name, _ in MANY)
    deep = result.loads[DEEP].of_rounds("ring9", "ring-floor")
    return [
        *table(["", "ring floor", "epoll floor", "ring9", "epoll", "tokio"], rows),
        "",
        f"With many connections ring9 takes {many[0]:.2f} to {many[-1]:.2f} times the cpu of the ring floor, and the epoll floor {floors[0]:.2f} to {floors[-1]:.2f} times; one connection at depth 16 on one cpu takes {deep:.2f} times.",
    ]


BLOCKS = {
    README: {"table": readme},
    RUNTIMES: {"measured": measured, "losses": losses, "goals": goals, "special": special, "profile": profile, "open-loops": open_loops},
    PAGE_12: {"floor": page_12},
}


def blocks(result: Result, repository: str, write: bool) -> None:
    for path, makers in BLOCKS.items():
        full = os.path.join(repository, path)
        text = open(full).read()
        made = {name: "\n" + "\n".join(maker(result)) + "\n\n" for name, maker in makers.items()}
        if write:
            text = BLOCK.sub(lambda found: f"<!-- runtimes: {found[1]} -->\n{made.get(found[1], found[2])}<!-- end -->", text)
            open(full, "w").write(text)
        there = BLOCK.findall(text)
        names = [name for name, _ in there]
        begun, ended = text.count("<!-- runtimes:"), text.count("<!-- end -->")
        check(f"{path}: its blocks are there, each once", sorted(names) == sorted(made) and begun == ended == len(made), f"{names}, {begun} begun, {ended} ended; they ought to be {list(made)}")
        for name, body in there:
            if name in made:
                differs = "\n".join(difflib.unified_diff(body.splitlines(), made[name].splitlines(), "there", "measured", n=0, lineterm=""))
                check(f"{path}: {name}", body == made[name], f"differs from the result (--write puts it right)\n{differs}")


def numbers_of_loads(result: Result, repository: str) -> None:
    """In a command it is how many there are now, elsewhere how many were measured."""
    for path in BLOCKS:
        wrong = []
        for line in open(os.path.join(repository, path)):
            right = len(result.quick if "--quick" in line else result.known) if "ring9-bench -- runtimes" in line else len(result.loads)
            wrong += [f"{found} loads where it is {right}: {line}" for found in re.findall(r"(\d+) loads\b", line) if int(found) != right]
        check(f"{path}: numbers of loads", not wrong, "\n".join(wrong))


def servers(repository: str) -> None:
    """The docs name and count the servers of the roster."""
    lines = open(os.path.join(repository, RUNTIMES)).read().partition("\n| server | I/O |")[2].splitlines()[2:]
    rows = [line.split("|")[1].strip() for line in lines[: lines.index("")]] if "" in lines else []
    check(f"{RUNTIMES}: a row for each server of bench/baselines/roster.json", rows == ["ring9", *BASELINES], rows)
    for path in (README, RUNTIMES, "docs/benchmarking.md"):
        said = set(re.findall(r"(\w+) other I/O layers", open(os.path.join(repository, path)).read())) - {"on"}
        check(f"{path}: the number of other I/O layers", said <= {NUMBERS[len(BASELINES)]}, said)


def tables(result: Result, repository: str) -> None:
    path = os.path.join(result.folder, "tables.txt")
    there = os.path.join(repository, path)
    text = open(there).read() if os.path.exists(there) else ""
    wrong = []
    for name, load in result.loads.items():
        part = text.partition(f"\n{name}: ")[2].partition("\n\n")[0].splitlines()
        for server, rounds in load.contenders.items():
            did = f"{statistics.median(one['throughput'] for one in rounds):.0f}"
            if not any(line.split()[:2] == [server, did] for line in part):
                wrong.append(f"{name}: {server} {did}")
    check(f"{path} is of this result", not wrong, f"it has no {', '.join(wrong[:5])}" if text else "there is none")


def file(result: Result, repository: str) -> None:
    """The file of the result. A search in the repository does not look into it: it is compressed."""
    path = resultfile.path_in(os.path.join(repository, result.folder))
    size = os.path.getsize(path)
    check(f"the result has less than {resultfile.BYTES_MAX:,} bytes", size < resultfile.BYTES_MAX, f"{size:,}")
    places = sorted(set(re.findall(r"/(?:work|root)/|/tmp/\.tmp", resultfile.text(path))))
    check("the result names no place of the machine that it was measured on", not places, places)


def revision(result: Result, repository: str) -> None:
    """Of what the result is."""
    git = lambda *words: subprocess.run(["git", "-C", repository, *words], capture_output=True, text=True)
    said = {result.raw["environment"]["ring9-bench"], *(load.revision for load in result.loads.values())}
    text = listed(sorted(said))
    check("the result is of one revision", len(said) == 1, text)
    check("the result is of sources that were committed", "-dirty" not in text, f"{text}: a folder with changes that no commit has")
    found = re.search(r"\b(?:\S+-g)?([0-9a-f]{7,40})\b", result.raw["environment"]["ring9-bench"])
    what = "the result is of a commit that is in this history"
    if not found:
        return check(what, False, f"{text} names none")
    if git("rev-parse", "HEAD").returncode:
        return print(f"     {what}: not looked at, this is no clone")
    if git("cat-file", "-e", f"{found[1]}^{{commit}}").returncode:
        return print(f"     {what}: not looked at, this clone does not have {found[1]}: it is shallow, or was made anew")
    check(what, git("merge-base", "--is-ancestor", found[1], "HEAD").returncode == 0, f"{found[1]} is no ancestor of HEAD")


def main() -> int:
    repository = sys.argv[1]
    servers(repository)
    text = BLOCK.sub("", open(os.path.join(repository, RUNTIMES)).read())
    folders = sorted(set(re.findall(r"\]\(\.\./(bench/results/[^/)\s]+/[^/)\s]+)/?\)", text)))
    check(f"{RUNTIMES} links to one folder of bench/results, outside of its blocks", len(folders) == 1, folders)
    if len(folders) == 1:
        result = None
        try:
            result = Result(repository, folders[0])
        except ValueError as error:
            check(f"{folders[0]} has a result", False, error)
        if result:
            file(result, repository)
            check("the result is a whole one", not result.raw["quick"], "of runtimes --quick")
            tables(result, repository)
            revision(result, repository)
            blocks(result, repository, "--write" in sys.argv[2:])
            numbers_of_loads(result, repository)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
