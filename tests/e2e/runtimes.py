"""ring9-bench runtimes --quick: all servers and three floors in seven loads; what it leaves is as its schema says, and its page shows it. Then, by their names, the loads in which
only some of the servers take part.

Usage: runtimes.py BIN-FOLDER        (needs jsonschema of PyPI; builds bench/baselines)
"""

import json
import os
import subprocess
import sys
import tempfile

import jsonschema
import resultfile
from roster import BASELINES, RUNTIMES

SERVERS = ["ring9", *BASELINES]
FLOORS = ["epoll-floor", "blocking-floor"]
# Beside them, with small messages.
RING_FLOOR = ["ring-floor"]
SPINNING, IDLE = "tcp-1-read-4k-spinning", "tcp-64-read-4k-beside-10000-idle"
BULK = "tcp-16-read-4k-beside-bulk"
LOADS = ["tcp-64-read-4k", "unix-64-read-4k", "tcp-1-read-4k", "tcp-1x16-read-4k", "tcp-1x4-read-1m", "tcp-1x4-write-1m", "one-cpu-1x16-read-4k"]

passed = failed = 0


def check(what: str, holds: bool, found: object = "") -> None:
    global passed, failed
    passed, failed = passed + holds, failed + (not holds)
    print("ok  " if holds else "FAIL", what, "" if holds else found, flush=True)


def goals_are_judged(shape: dict) -> None:
    verdicts = shape["comparison"]["verdicts"]
    check(f"{shape['id']}: goals are judged", bool(verdicts) and all(one["verdict"] in ("met", "missed", "undecided") for one in verdicts))
    check(f"{shape['id']}: and excused where they are undecided alone", all(one["why"] is None or one["verdict"] == "undecided" for one in verdicts), verdicts)


def some_take_part(runtimes: list[str], schema: dict, folder: str) -> None:
    """Loads in which servers spin, have a crowd of idle connections, or another client that reads in large pieces."""
    out = os.path.join(folder, "some")
    done = subprocess.run([*runtimes, "--only", f"{SPINNING},{IDLE},{BULK}", "--out", out], capture_output=True, text=True)
    check("loads by their names end well", done.returncode == 0, done.stderr)
    result = resultfile.read(out)
    jsonschema.validate(result, schema)
    shapes = {shape["id"]: shape for shape in result["shapes"]}
    check("they are there", list(shapes) == [BULK, SPINNING, IDLE] and not result["rates"], list(shapes))
    names = {SPINNING: ["ring9-spinning", "epoll", "spinning-floor", *FLOORS], IDLE: ["ring9", "ring9-alone", "epoll", "epoll-alone"], BULK: SERVERS}
    for name, shape in shapes.items():
        contenders = shape["comparison"]["contenders"]
        check(f"{name}: who takes part", [one["name"] for one in contenders] == names[name], contenders)
        check(f"{name}: every round", all(len(one["rounds"]) == 7 and all(each["throughput"] > 0 for each in one["rounds"]) for one in contenders))
        if name != BULK:
            goals_are_judged(shape)
    beside = {one["name"]: [each["bulk_per_s"] for each in one["rounds"]] for one in shapes[BULK]["comparison"]["contenders"]}
    check("what the other client does is there", all(each is not None and each >= 0 for rounds in beside.values() for each in rounds) and min(beside["ring9"]) > 0, beside)
    places = [one["place"] for one in shapes[SPINNING]["comparison"]["contenders"]]
    check("ring9 alone looks for work", ["--busy-poll" in place for place in places] == [True, False, False, False, False], places)
    # A limit of open files may allow fewer.
    check("how many are idle is said", 0 < shapes[IDLE]["idle_connections"] <= 10_000 and shapes[SPINNING]["idle_connections"] == 0)
    pairs = {(one["of"], one["to"]) for one in shapes[IDLE]["comparison"]["ratios"]}
    check("each is held against itself", pairs == {("ring9", "ring9-alone"), ("epoll", "epoll-alone")}, pairs)


def main() -> int:
    bench = os.path.join(sys.argv[1], "ring9-bench")
    here = os.path.dirname(os.path.abspath(__file__))
    repository = os.path.join(here, "../..")
    with tempfile.TemporaryDirectory() as folder:
        one_cpu = ["--cpu", "0"] if os.cpu_count() == 1 else []
        runtimes = [bench, "runtimes", "--quick", "--repository", repository, *one_cpu]
        done = subprocess.run([*runtimes, "--out", folder], capture_output=True, text=True)
        check("it ends well", done.returncode == 0, done.stderr)
        check("the result is compressed, as small as it has to be", resultfile.path_in(folder).endswith(".gz") and os.path.getsize(resultfile.path_in(folder)) < resultfile.BYTES_MAX)
        result = resultfile.read(folder)
        schema = json.loads(subprocess.run([bench, "schema", "runtimes"], capture_output=True, check=True).stdout)
        check("the schema is the one that is stored", schema == json.load(open(os.path.join(repository, "bench/schema/runtimes-1.json"))))
        jsonschema.validate(result, schema)
        check("the result is as its schema says", True)
        check("all servers are there", [server["name"] for server in result["servers"]] == SERVERS, result["servers"])
        for server in result["servers"]:
            known = server["lines"] > 50 and server["crates"] > 10 and server["threads"] >= 1 and server["idle_cpu_us"] is not None
            released = server["name"] not in RUNTIMES or server["facts"]["released"] and server["facts"]["version"]
            check(f"{server['name']}: what is known of it", bool(known and released), server)
            # A call at least brings an operation or its reply, unless many come at once; none is known where processes may not be traced.
            calls = server["syscalls_per_operation"]
            check(f"{server['name']}: calls of an operation", calls is None or 0.2 < calls < 40, calls)
        counted = [server["syscalls_per_operation"] is not None for server in result["servers"]]
        check("calls are counted of all servers, or of none", all(counted) or not any(counted), counted)
        check("all loads", [shape["id"] for shape in result["shapes"]] == LOADS)
        for shape in result["shapes"]:
            contenders = shape["comparison"]["contenders"]
            check(f"{shape['id']}: servers and floors", [one["name"] for one in contenders] == SERVERS + FLOORS + ([] if shape["id"].endswith("1m") else RING_FLOOR))
            for one in contenders:
                rounds = one["rounds"]
                sound = len(rounds) == 7 and all(each["throughput"] > 0 and each["cpu_us"] > 0 for each in rounds)
                check(f"{shape['id']}: {one['name']}: every round", sound, rounds)
            goals_are_judged(shape)
            judges = [one for one in shape["comparison"]["ratios"] if one["of"] == "epoll"]
            of_judge = {(one["to"], one["statistic"]) for one in judges} >= {("epoll-floor", "throughput"), ("epoll-floor", "cpu")}
            check(f"{shape['id']}: the baseline is held against its floor, with 64 connections", of_judge == ("-64-" in shape["id"]), judges)
        check("warnings of a kind share a line", all(done.stdout.count(f"WARNING: {kind} in") <= len(LOADS) for kind in ("noise", "generator-bound")), done.stdout)
        held = [(one["server"], one["share"]) for one in result["rates"]]
        check("open loops of all", held == [(name, share) for name in SERVERS for share in (0.1, 0.5, 0.8, 0.95, None)], held)
        at = {(one["server"], one["rate"]): one for one in result["rates"]}
        for one in result["objectives"]:
            # Of too few operations there is no p99.
            mine = sorted(rate for (server, rate), held in at.items() if server == one["server"] and held["p99_ns"])
            keeps = [at[one["server"], rate]["achieved"] >= 0.995 and at[one["server"], rate]["p99_ns"] <= one["objective"]["at_most_ns"] for rate in mine]
            below = (keeps + [False]).index(False)
            wanted = (mine[below - 1] if below else None, mine[below] if below and below < len(mine) else None)
            edge = one["edge"] or {"holds": None, "ends": None}
            check(f"{one['server']}: what it bears is what its rates say", (edge["holds"], edge["ends"]) == wanted, (one, keeps))
        check("one for each", [one["server"] for one in result["objectives"]] == SERVERS, result["objectives"])
        check("no place of a folder that is gone", tempfile.gettempdir() not in json.dumps(result))
        page = open(os.path.join(folder, "report.html")).read()
        again = os.path.join(folder, "again")
        done = subprocess.run([bench, "report", folder, "--out", again], capture_output=True, text=True)
        check("report reads it back", done.returncode == 0 and open(os.path.join(again, "report.html")).read() == page, done.stderr)
        check("the page has its pictures", page.count("<svg") == 2 * len(LOADS) + 1, page.count("<svg"))
        check("and needs nothing from elsewhere", "src=\"http" not in page and "href=\"http" not in page)
        some_take_part(runtimes, schema, folder)
        for flags, what in ((["--only", "nonsense"], "nonsense"), (["--repository", folder], folder), (["--cpu", "4096"], "cpus")):
            refused = subprocess.run([bench, "runtimes", "--out", folder, *flags], capture_output=True, text=True)
            check(f"{' '.join(flags[:1])}: refused with a reason", refused.returncode == 2 and what in refused.stderr, refused.stderr)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
