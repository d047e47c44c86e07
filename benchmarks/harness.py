"""Time several ways of doing the same work, side by side in one run."""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from babygpt_course import results

HERE = Path(__file__).resolve().parent


def compare(ways: dict[str, Callable[[], object]], repeats: int = 9) -> list[dict]:
    """Median seconds of each way, and its ratio to the first.

    The ways take turns, so that a slow minute of the machine falls on all of them; each runs once before
    the clock starts.
    """
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(t) for name, t in times.items()}
    first = next(iter(medians.values()))
    return [
        {
            "way": name,
            "median_seconds": seconds,
            "ratio": seconds / first,
            "repeats": repeats,
        }
        for name, seconds in medians.items()
    ]


def report(name: str, rows: list[dict], about: str) -> None:
    """Print the rows, and write them to benchmarks/results with the command, versions, hardware and load."""
    print(about)
    for row in rows:
        print(
            f"  {row['way']:38} {row['median_seconds'] * 1e3:10.3f} ms   x{row['ratio']:.2f}"
        )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    command = f"python -m benchmarks.{Path(sys.argv[0]).stem}"
    where = results.provenance() | {"command": command, "load": load}
    file = HERE / "results" / f"{name}.json"
    file.write_text(
        json.dumps({"about": about, "rows": rows, **where}, indent=1) + "\n"
    )
    print(f"written to {file}")
