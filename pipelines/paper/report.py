"""Stage: tables, figures and the page, of everything that could be measured."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval import ablation, editing, noise_spread, protocol, table2, verdict
from eval.absent import Absent
from eval.clip_measurement import FRAMES
from eval.contest import Places
from eval.datasets.dataset import DESCRIPTION
from eval.edit_measurement import EDITS
from eval.provenance import provenance
from eval.report.contents import Chapter
from eval.report.page import report
from eval.verdict import FACES
from fse.device import usable_device
from fse.refusal import Refusal, exit_on_refusal
from pipelines.paper import absence
from pipelines.paper.domains import DOMAINS
from pipelines.paper.parameters import read_parameters
from pipelines.paper.profile import PaperProfile

CHAPTERS = (
    Chapter("Reproduced?", verdict.section, "It needs measured faces."),
    Chapter("The protocol, read in every way", protocol.section, "It needs measured faces."),
    Chapter("The generator's noise", noise_spread.section, "`dvc repro noise` measures it on FSE."),
    Chapter("Table 2, videos", table2.section, "It needs clips of RAVDESS."),
    Chapter("Ablations", ablation.section, "`dvc repro ablate` trains the variants."),
    Chapter("Editing", editing.section, "It needs CelebA's attributes, and a row with codes."),
)


def titles(test: Path) -> dict[str, str]:
    """DOMAIN -> its name in print with its data set's, as prepared; partial sets say so."""
    found = {}
    for name, domain in DOMAINS.items():
        path = test / name / DESCRIPTION
        described = json.loads(path.read_text(encoding="utf-8"))["title"] if path.is_file() else domain.title
        found[name] = described if described.startswith(domain.title) else f"{domain.title}: {described}"
    return found


def render(places: Places, profile: PaperProfile, parameters: Mapping[str, Any]) -> None:
    """Every table and figure but Table 1, of what was measured."""
    measured = places.measurements
    if (measured / f"{FRAMES}.json").is_file():
        table2.render(places, table2.origin_of(places, profile, parameters), profile=profile.name)
        table2.illustrate(places, resolution=profile.resolution)
    if (measured / f"{EDITS}.json").is_file():
        editing.render(places, editing.origin_of(places, profile, parameters), profile=profile.name)
        editing.illustrate(places, profile)
    for name, table, stem in ((FACES, "table1", "protocol"), (FRAMES, "table2", "protocol_clips")):
        if (measured / f"{name}.json").is_file():
            readings = protocol.read(name, measured, table)
            protocol.render(readings, places.reports / stem, profile.name, provenance(profile.inputs, parameters))
    for name in DOMAINS:
        for path in Path("weights", name).glob("training.*"):
            places.training.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, places.training / f"fse_{name}{path.suffix}")
    runs = [path for folder in sorted(Path("data/ablation").glob("*")) for path in folder.glob("*.json")]
    if trained := [path for path in runs if path.name != absence.FILE]:
        target = places.reports / "ablation"
        target.mkdir(parents=True, exist_ok=True)
        for path in trained:
            shutil.copyfile(path, target / path.name)
        ablation.render(target, places.reports, profile=profile.name)


@exit_on_refusal
def main() -> None:
    """Write ``reports/table1.*``, ``table2.*``, the figures and ``index.html``."""
    argparse.ArgumentParser(prog="python -m pipelines.paper.report", description=__doc__).parse_args()
    parameters, places = read_parameters(), Places()
    profile = PaperProfile.of("faces", parameters.assets, usable_device(parameters.device))
    absent = Absent.read(places.measurements)
    sets = [name for name in DOMAINS if name not in absent.sets]
    if not sets:
        reasons = "; ".join(dict.fromkeys(absent.sets.values()))
        raise Refusal(f"nothing could be measured, so there is nothing to report: {reasons}")
    values = parameters.model_dump(mode="json")
    render(places, profile, values)
    print(report(places, profile, sets=sets, titles=titles(places.test), parameters=values, chapters=CHAPTERS))


if __name__ == "__main__":
    main()
