"""``python -m benchmarks [NAME ...]``: run the named benchmarks (default: all), then refill the README's results."""

from __future__ import annotations

import argparse
import importlib

from benchmarks import readme

BENCHMARKS = (
    "startup",
    "page",
    "live",
    "engine_overhead",
    "roles",
    "quality",
    "scorer_speed",
    "evaluation",
    "batching",
    "ray_serve",
    "trainer_cost",
    "trainer_memory",
    "study_faults",
    "study_load",
    "mixed_load",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    names = parser.parse_args().names or BENCHMARKS
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        parser.exit(2, f"unknown benchmark {min(unknown)!r}; known: {', '.join(BENCHMARKS)}\n")
    for name in names:
        print(f"== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").main()
    readme.fill()


if __name__ == "__main__":
    main()
