"""Stage: features of a set that FID is taken to besides the sources, which the paper leaves open."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from eval.datasets.official import read_official
from eval.metrics.distribution import FID
from eval.metrics.paper_suite import REDUCED
from eval.metrics.reference_set import set_features
from eval.provenance import code_sha256, sha256
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.refusal import Refusal, exit_on_refusal
from pipelines.paper.absence import mark_absent, unmark
from pipelines.paper.domains import DOMAINS, REFERENCES
from pipelines.paper.parameters import PaperParameters, read_parameters
from pipelines.paper.profile import REFERENCE, reference_folder
from pipelines.paper.surveyed import FOLDER as SURVEY
from pipelines.paper.surveyed import INCEPTION, Surveyed


def write_features(name: str, parameters: PaperParameters, surveyed: Surveyed) -> None:
    """Of the first pictures of a set, at the native size and the scripts'; or the reason why there are none."""
    domain, pictures = REFERENCES[name]
    folder, device = reference_folder(name), usable_device(parameters.device)
    count = getattr(parameters.references, name)
    if count == 0:
        mark_absent(folder, f"references.{name} is 0 in params.yaml")
        return
    try:
        found = read_official(name, surveyed.path(pictures.asset), allow_partial=parameters.allow_partial)
        metric = FID.load(surveyed.path(INCEPTION))
    except Refusal as refusal:
        mark_absent(folder, str(refusal))
        return
    metric.network.to(device)
    sizes = {"": None, REDUCED: DOMAINS[domain].measured}
    batch = parameters.evaluate.batch
    told = f"{sha256(SURVEY / f'reference-{name}.json')} {count} {batch} {device} {code_sha256()}"
    unfinished = Path("runs/reference", f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:12]}.npz")
    made = set_features(found, metric, sizes, count=count, device=device, batch=batch, unfinished=unfinished)
    made.write(folder / REFERENCE)
    unmark(folder)


@exit_on_refusal
def main() -> None:
    """Write ``data/reference/SET/features.npz``, or ``absent.json`` there."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.paper.reference", description=__doc__)
    parser.add_argument("set", choices=REFERENCES, metavar="SET", help=", ".join(REFERENCES))
    name = parser.parse_args().set
    keep_freed_memory()
    write_features(name, read_parameters(), Surveyed.read())


if __name__ == "__main__":
    main()
