#!/usr/bin/env python3
"""Makes the curves (*.svg, beside this file) and the tables of docs/performance.md out of figures.json.

Needs matplotlib: `pip install matplotlib`.
"""

import json
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update(
    {"svg.hashsalt": "conclave", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
     "axes.spines.right": False, "lines.marker": "o", "lines.markersize": 4, "svg.fonttype": "none"}
)
from matplotlib import pyplot  # noqa: E402

HERE = Path(__file__).parent
PAGE = HERE.parent / "performance.md"
FIGURES = json.loads((HERE / "figures.json").read_text())
INK = {"conclave": "#2f6f4f", "nats": "#b5651d", "limit": "#7a7a7a"}


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def spread(rows, key, scale, digits):
    """A median with the least and the most."""
    values = sorted(row[key] * scale for row in rows)
    return f"{statistics.median(values):.{digits}f} ({values[0]:.{digits}f} to {values[-1]:.{digits}f})"


def at(rows, subscribers, **more):
    wanted = {"subscribers": subscribers, **more}
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def picture(name, title, across, up, lines, **scales):
    figure, axes = pyplot.subplots(figsize=(6.4, 3.4))
    for label, points, style in lines:
        axes.plot(*zip(*points), label=label, **style)
    axes.set(title=title, xlabel=across, ylabel=up, **scales)
    if scales.get("yscale") != "log":
        axes.set_ylim(bottom=0)
    if len(lines) > 1:
        axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(HERE / f"{name}.svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def deliveries():
    found, rows = FIGURES["deliveries"], []
    for count in (10, 100, 1000):
        ours, theirs = at(found["conclave"], count), at(found["nats"], count)
        limit = [at(found["broadcast"], count, frames_a_write=frames) for frames in (1, 8, 64)]
        key = "deliveries_per_second"
        rows.append([
            f"{count:,}",
            spread(ours, key, 1e-6, 1),
            spread(theirs, key, 1e-6, 1),
            f"{median(ours, key) / median(theirs, key):.1f}",
            " / ".join(f"{median(each, key) * 1e-6:.1f}" for each in limit),
            f"{median(at(found['stub'], count), key) * 1e-6:.1f}",
            f"{median(ours, 'server_cpu_per_delivery_us'):.3f}",
            f"{median(theirs, 'server_cpu_per_delivery_us'):.3f}",
        ])
    head = ["subscribers", "conclave, million/s", "NATS, million/s", "ratio",
            "the machine's limit, million/s, at 1 / 8 / 64 frames a write", "what the bench can count, million/s",
            "conclave, CPU µs each", "NATS, CPU µs each"]
    return table(head, rows)


def curve():
    rows = FIGURES["subscribers"]
    peers = FIGURES["deliveries"]
    nats = [(n, median(at(peers["nats"], n), "deliveries_per_second") / 1e6) for n in (10, 100, 1000)]
    limit = [(n, median(at(peers["broadcast"], n, frames_a_write=64), "deliveries_per_second") / 1e6)
             for n in (10, 100, 1000)]
    ours = [(row["subscribers"], row["deliveries_per_second"] / 1e6) for row in rows]
    picture("deliveries", "Deliveries", "subscribers", "million a second", [
        ("conclave (stored, fsync)", ours, {"color": INK["conclave"]}),
        ("core NATS (nothing stored)", nats, {"color": INK["nats"]}),
        ("copying to sockets, 64 a write", limit, {"color": INK["limit"], "linestyle": "--"}),
    ], xscale="log", yscale="log")
    cost = [(row["subscribers"], row["server_cpu_per_post_us"]) for row in rows]
    picture("post-cost", "What a post costs the server", "subscribers", "µs of CPU", [
        ("conclave", cost, {"color": INK["conclave"]}),
    ], xscale="log", yscale="log")
    head = ["subscribers", "posts/s", "deliveries/s, million", "server CPU, µs a post", "server CPU, µs a delivery"]
    return table(head, [
        [f"{row['subscribers']:,}", f"{row['posts_per_second']:,.0f}", f"{row['deliveries_per_second'] / 1e6:.1f}",
         f"{row['server_cpu_per_post_us']:.1f}", f"{row['server_cpu_per_delivery_us']:.3f}"] for row in rows
    ])


def latency():
    rows = FIGURES["latency"]
    picture("latency", "Delivery to ten subscribers", "posts a second, thousand", "ms", [
        ("99th percentile", [(row["posts_per_second"] / 1e3, row["delivery_us"]["p99"] / 1e3) for row in rows],
         {"color": INK["nats"]}),
        ("median", [(row["posts_per_second"] / 1e3, row["delivery_us"]["p50"] / 1e3) for row in rows],
         {"color": INK["conclave"]}),
    ])
    head = ["of the most", "posts/s", "median, ms", "p99, ms", "p99.9, ms"]
    return table(head, [
        [f"{row['share']:.0%}", f"{row['posts_per_second']:,.0f}",
         *(f"{row['delivery_us'][q] / 1e3:.2f}" for q in ("p50", "p99", "p999"))] for row in rows
    ])


def posts():
    found = FIGURES["posts"]
    one = statistics.median(row["acknowledgement_us"]["p50"] for row in found["one"])
    fsync = median(found["fsync"], "p50_us")
    many = statistics.median(row["acknowledgement_us"]["p99"] for row in found["many"])
    return table(["", "measured"], [
        ["8 posters, 32 in flight each: acknowledged posts/s, thousand",
         spread(found["many"], "posts_per_second", 1e-3, 0)],
        ["the same, 99th percentile of the acknowledgement", f"{many / 1e3:.2f} ms"],
        ["one post in flight: acknowledged in, median", f"{one:.0f} µs"],
        ["one append and fsync of 4 KiB on this disk, median", f"{fsync:.0f} µs"],
        ["what a single post takes beyond its fsync", f"{one - fsync:.0f} µs"],
    ])


def connects():
    rows = FIGURES["connects"]
    return table(["", "measured"], [
        ["connects/s, thousand, each with its handshake", spread(rows, "per_second", 1e-3, 1)],
        ["server CPU a connect, µs", spread(rows, "server_cpu_per_connect_us", 1, 0)],
    ])


def idle():
    rows = FIGURES["idle"]
    picture("idle", "Idle sessions", "sessions", "MiB resident", [
        ("conclave", [(0, rows[0]["resident_before_bytes"] / 2**20)]
         + [(row["sessions"], row["resident_after_bytes"] / 2**20) for row in rows], {"color": INK["conclave"]}),
    ])
    head = ["sessions", "resident before, MiB", "resident after, MiB", "bytes a session", "bytes a session, all included"]
    return table(head, [
        [f"{row['sessions']:,}", f"{row['resident_before_bytes'] / 2**20:.1f}",
         f"{row['resident_after_bytes'] / 2**20:.1f}", f"{row['bytes_per_session']:,.0f}",
         f"{row['resident_after_bytes'] / row['sessions']:,.0f}"] for row in rows
    ])


def history():
    rows = FIGURES["history"]
    picture("history", "A page of 500 messages", "messages in the channel", "ms", [
        ("99th percentile", [(row["rows"], row["page_us"]["p99"] / 1e3) for row in rows], {"color": INK["nats"]}),
        ("median", [(row["rows"], row["page_us"]["p50"] / 1e3) for row in rows], {"color": INK["conclave"]}),
    ], xscale="log")
    head = ["messages in the channel", "rows/s, thousand", "a page: median, ms", "p99, ms", "server CPU a row, µs"]
    return table(head, [
        [f"{row['rows']:,}", f"{row['rows_per_second'] / 1e3:,.0f}", f"{row['page_us']['p50'] / 1e3:.2f}",
         f"{row['page_us']['p99'] / 1e3:.2f}", f"{row['server_cpu_per_row_us']:.2f}"] for row in rows
    ])


def start():
    rows = FIGURES["start"]
    picture("start", "From start to the first answered request", "users (a tenth as many channels, 100 messages each)",
            "ms", [("conclave", [(row["users"], row["seconds"] * 1e3) for row in rows], {"color": INK["conclave"]})],
            xscale="log", yscale="log")
    head = ["users", "channels", "messages", "to the first answered request, ms"]
    return table(head, [
        [f"{row['users']:,}", f"{row['channels']:,}", f"{row['messages']:,}", f"{row['seconds'] * 1e3:.0f}"]
        for row in rows
    ])


def v1():
    head = ["subscribers", "posts/s", "deliveries/s", "server CPU, µs a delivery", "delivery, p99, ms", ""]
    return table(head, [
        [f"{row['subscribers']:,}", f"{row['posts_per_second']:,.0f}", f"{row['deliveries_per_second']:,.0f}",
         f"{row['server_cpu_per_delivery_us']:.1f}", f"{row['delivery_us']['p99'] / 1e3:.0f}",
         "it cut subscribers off" if row["failed"] else ""]
        for row in FIGURES["v1"]
    ])


def machine():
    found = FIGURES["machine"]
    return (f"Measured on {found['date']}: {found['cores']} cores of {found['cpu']}, Linux {found['kernel']}, "
            f"{found['nats']}.")


def main():
    text = PAGE.read_text()
    for name, make in {"machine": machine, "deliveries": deliveries, "subscribers": curve, "latency": latency,
                       "posts": posts, "connects": connects, "idle": idle, "history": history, "start": start,
                       "v1": v1}.items():
        if name != "machine" and name not in FIGURES:
            continue
        opening, closing = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, rest = text.split(opening)
        _, after = rest.split(closing)
        text = before + opening + make() + "\n" + closing + after
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
