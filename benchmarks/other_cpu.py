"""How far Table 1 moves on another CPU: ``python -m benchmarks.other_cpu``.

Test pictures are made, inverted and measured twice, each time by processes of their own: as this machine does it, and
held back to the instructions of an older one. PyTorch's own kernels then have no vector extensions, those of oneDNN,
MKL and OpenBLAS the ones of about 2008, so that sums are taken in another order, as another CPU would. dlib cannot be
held back. What is printed is, for each metric, the mean that moved most, and which part of its tolerance that is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from eval.contest import Places
from eval.profile import Profile
from eval.table1 import evaluate, invert_test_sets, render
from eval.tolerance import compare, nearest, nearest_table, read_tolerances
from pipelines.data import make_test_sets
from pipelines.parameters import Data, read_parameters

OLDER = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "NEHALEM",
}


def main() -> None:
    """Print a row a metric."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.other_cpu", description=__doc__)
    parser.add_argument("--renders", type=int, default=16, help="pictures of the larger set (default: %(default)s)")
    parser.add_argument("--slow", type=int, default=1, help="pictures by methods that optimise (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="of a thread each (default: %(default)s)")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # of the process that measures
    arguments = parser.parse_args()
    if arguments.into:
        measure(arguments.into, arguments.renders, arguments.slow, arguments.processes)
        return
    tables = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, held_back in {"this CPU": {}, "an older CPU": OLDER}.items():
            print(f"\n{name}", flush=True)
            into = Path(scratch) / name.replace(" ", "_")
            command = [sys.executable, "-m", "benchmarks.other_cpu", *sys.argv[1:], "--into", str(into)]
            subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1", **held_back}, check=True)
            tables.append(json.loads((into / "table1.json").read_text()))
    differences = compare(tables[0], tables[1], read_tolerances(Path("params.yaml")))
    Console().print(nearest_table(nearest(differences)))


def measure(into: Path, renders: int, slow: int, processes: int) -> None:
    """Table 1 of small test sets, all of it below ``into``."""
    parameters, profile = read_parameters(), Profile()
    make_test_sets(Data(**{**parameters.data.model_dump(), "renders": renders}), profile, into / "test")
    places = Places(test=into / "test", inversions=into / "inversions", reports=into)
    subsets = dict.fromkeys(parameters.evaluate.subset, slow)
    invert_test_sets(places, profile, sets=["renders", "photographs"], subsets=subsets, processes=processes)
    evaluate(places, profile, subsets=subsets, processes=processes)
    render(places, {})


if __name__ == "__main__":
    main()
