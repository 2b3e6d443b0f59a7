#!/usr/bin/env python3
"""Measures what docs/performance.md shows, on a machine that does nothing else; about a quarter of an hour.

    docs/performance/measure.py [--v1 PROGRAM] [--only RUN ...]

Needs Linux, a release build's Rust, and nats-server (Debian: nats-server). `--v1` names the program of conclave-cli
0.3.8, to be measured as well. Figures go to docs/performance/figures.json; draw.py makes tables and curves of them.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIGURES = Path(__file__).with_name("figures.json")
BUILT = ROOT / "target/performance"
SECONDS = 5
RUNS = 3


def build():
    """The program as users build it, and, with dependencies of its own, what it is compared with."""
    BUILT.mkdir(parents=True, exist_ok=True)
    cargo = ["cargo", "build", "--quiet", "--locked", "--release", "-p", "conclave"]
    subprocess.run([*cargo, "--example", "compare"], cwd=ROOT, check=True)
    shutil.copy(ROOT / "target/release/examples/compare", BUILT)
    subprocess.run(cargo, cwd=ROOT, check=True)
    shutil.copy(ROOT / "target/release/conclave", BUILT)


def json_of(*command, may_fail=False, **more):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=not may_fail, **more)
    return {**json.loads(done.stdout), "failed": done.returncode != 0}


def compare(*words, **more):
    return json_of(BUILT / "compare", *words, **more)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    """Whether a connection is served: the system accepts some before the program does."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        connection.recv(1)
        return True
    return False


@contextlib.contextmanager
def running(command, port):
    """A server, from its first served connection to its end; gives its process and the seconds it took."""
    start = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not answers(port):
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended with {process.returncode}")
            if time.monotonic() - start > 60:
                raise SystemExit(f"{command[0]} accepts nothing")
            time.sleep(0.001)
        yield process, time.monotonic() - start
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def conclave(directory=None, program=None, flags=("--limit", "all=off")):
    with tempfile.TemporaryDirectory(prefix="conclave-measure-") as fresh:
        port = free_port()
        command = [program or BUILT / "conclave", "serve", "--bind", f"127.0.0.1:{port}"]
        with running([*command, "--data-dir", directory or fresh, *flags], port) as (process, took):
            # Another server may cut the load off; what was measured until then is told all the same.
            may_fail = program is not None

            def bench(*words):
                server = f"ws://127.0.0.1:{port}"
                found = json_of(
                    BUILT / "conclave", "bench", "--json", "--server", server, "--pid", process.pid, *words,
                    may_fail=may_fail,
                )
                print("   ", *words, json.dumps(found)[:150], flush=True)
                return found

            bench.took = took
            yield bench


def load(bench, subscribers, *words, seconds=SECONDS):
    return bench("--subscribers", subscribers, "--posters", min(8, subscribers), "--duration", f"{seconds}s", *words)


def deliveries():
    """Conclave, NATS and the machine's limit in turn, so that all meet the same minutes."""
    found = {"conclave": [], "nats": [], "broadcast": [], "stub": []}
    for _ in range(RUNS):
        for subscribers in (10, 100, 1000):
            with conclave() as bench:
                found["conclave"].append(load(bench, subscribers))
            port = free_port()
            with running(["nats-server", "-a", "127.0.0.1", "-p", port], port) as (process, _):
                environment = {**os.environ, "NATS_PID": str(process.pid)}
                found["nats"].append(
                    compare("nats", f"127.0.0.1:{port}", subscribers, 8, 32, SECONDS, env=environment)
                )
            for frames in (1, 8, 64):
                found["broadcast"].append(compare("broadcast", subscribers, frames, 2))
    # What the bench itself can count, of a server that does nothing.
    for subscribers in (10, 100, 1000):
        port = free_port()
        with running([BUILT / "compare", "stub", f"127.0.0.1:{port}", 60], port) as (process, _):
            found["stub"].append(
                json_of(BUILT / "conclave", "bench", "--json", "--server", f"ws://127.0.0.1:{port}",
                        "--subscribers", subscribers, "--duration", f"{SECONDS}s")
            )
    return found


def subscribers():
    found = []
    for count in (10, 30, 100, 300, 1000, 3000):
        with conclave() as bench:
            found.append(load(bench, count))
    return found


def latency():
    """Deliveries to ten under half of what they can be sent at most, and under less."""
    with conclave() as bench:
        most = load(bench, 10)["posts_per_second"]
    found = []
    for share in (0.1, 0.25, 0.5, 0.75):
        with conclave() as bench:
            found.append({"share": share, **load(bench, 10, "--rate", int(most * share))})
    return found


def posts():
    found = {"many": [], "one": [], "fsync": []}
    for _ in range(RUNS):
        with conclave() as bench:
            found["many"].append(load(bench, 8))
        with tempfile.TemporaryDirectory(prefix="conclave-measure-") as directory:
            found["fsync"].append(compare("fsync", directory, 5000))
        with conclave() as bench:
            found["one"].append(load(bench, 1, "--in-flight", 1))
    return found


def connects():
    found = []
    for _ in range(RUNS):
        with conclave() as bench:
            found.append(bench("--connects", 20000))
    return found


def idle():
    found = []
    for count in (1000, 2000, 5000, 10000):
        with conclave() as bench:
            found.append(bench("--idle", count))
    return found


def history():
    found = []
    for messages in (1_000, 10_000, 100_000, 1_000_000, 10_000_000):
        with tempfile.TemporaryDirectory(prefix="conclave-measure-") as directory:
            subprocess.run([BUILT / "compare", "fill", directory, "1", "1", str(messages)], check=True)
            with conclave(directory) as bench:
                bench("--history", messages, "--of", "channel0")
                found.append(bench("--history", messages, "--of", "channel0"))
    return found


def start():
    found = []
    for users in (100, 1_000, 10_000, 100_000):
        with tempfile.TemporaryDirectory(prefix="conclave-measure-") as directory:
            sizes = {"users": users, "channels": users // 10, "messages": users * 100}
            subprocess.run([BUILT / "compare", "fill", directory, *map(str, sizes.values())], check=True)
            took = []
            for _ in range(RUNS):
                with conclave(directory) as bench:
                    took.append(bench.took)
            found.append({**sizes, "seconds": sorted(took)[RUNS // 2]})
            print("   ", found[-1], flush=True)
    return found


def v1(program):
    """The existing v1 server, with what it takes."""
    found = []
    for count in (10, 100, 1000):
        with conclave(program=program, flags=()) as bench:
            found.append(load(bench, count))
    return found


def machine():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    nats = subprocess.run(["nats-server", "--version"], capture_output=True, text=True).stdout.strip()
    return {
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "nats": nats,
        "date": time.strftime("%Y-%m-%d"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--v1", metavar="PROGRAM")
    parser.add_argument("--only", nargs="*", metavar="RUN")
    options = parser.parse_args()
    runs = {run.__name__: run for run in (deliveries, subscribers, latency, posts, connects, idle, history, start)}
    if options.v1:
        runs["v1"] = lambda: v1(options.v1)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    build()
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for name in options.only or runs:
        print(name, flush=True)
        figures[name] = runs[name]()
        figures["machine"] = machine()
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
