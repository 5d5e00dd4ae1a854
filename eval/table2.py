"""Table 2, video inversion: ``python -m eval.table2`` measures, prints the tables and writes them in four forms.

Two tables. The first is the paper's: metrics of single frames on aligned crops, averaged over the frames of a clip and
then over clips. The second is what the paper says of video and does not measure, stability: identity over time,
flicker, trembling, perceptual change (:mod:`eval.metrics.clip_suite`). Intervals and tests are over clips, as the
frames of one clip are no independent samples.

Without options it measures what ``dvc repro`` made, the clips ``data/clips`` against ``data/clip_inversions/METHOD``.
The two halves, :func:`evaluate` (frames to measurements) and :func:`render` (measurements to tables and figures), also
serve the pipeline. Stopped, it goes on where it was when it is called again.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from eval import clip_measurement, measurement
from eval.absent import Absent
from eval.clip_measurement import EXTREME, FRAMES, INTERPOLATED, TEMPORAL, per_clip
from eval.clips import clip_of, number_of, read_clips
from eval.contest import ROWS, Places
from eval.figures.contestants import contestants, left_out
from eval.figures.filmstrip import caption, clip_with_extremes, filmstrip
from eval.figures.looping_clip import write_looping_clip
from eval.figures.style import save
from eval.measurement import Parts, plain
from eval.metrics.clip_suite import SOURCE
from eval.metrics.paper_suite import DECIMALS as OFFICIAL_DECIMALS
from eval.metrics.suite import mean_cell
from eval.orderings import HELD, NOT_HELD, NOT_MEASURED, NOT_SEPARABLE, Ordering, published_orderings
from eval.processes import processes_for
from eval.profile import Profile
from eval.provenance import code_sha256, provenance, sha256
from eval.section import Illustration, Section
from eval.set_table import Judged, estimate, for_readers, published, set_table, write_forms
from eval.table1 import MEAN_DESCRIPTOR, read_parameters
from eval.tables import ABSENT, Row, Table, TextTable
from eval.wording import CLIPS
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.refusal import Refusal, exit_on_refusal

TITLES = {"embedded": "Rendered talking-face clips"}  # by profile; others have "Talking-face clips"
ORIGINS = {
    "embedded": "The clips are no filmed faces: the generator that the methods invert rendered them, along paths of "
    "its codes, before a background that stays."
}
DECIMALS = {"psnr": 2, "mse": 4, "id_same": 2, "added_jitter": 2, "motion_followed": 2}  # the others have 3
DECIMALS |= OFFICIAL_DECIMALS
OWN_JITTER = "landmark_jitter"
"""A temporal column that is no contest: it has no better and worse."""

DEFINITIONS = {
    "tl_id": (
        "TL-ID and TG-ID (Tzaban et al., 2022): the mean over consecutive frames, and over all pairs of frames of a "
        "clip, of the cosine of the reconstruction's two descriptors divided by the source's. 1 is as stable as the "
        "source; a face that does not move exceeds it, and neither says whose face it is. Centred dlib descriptors, "
        "ArcFace's there."
    ),
    "id_lowest": "Lowest ID: of a clip, the ID of its worst frame, as in the first table.",
    "warping_error": (
        "Warping error (Lai et al., 2018): mean squared difference of each frame and the next one pulled back along "
        "the source's optical flow, pictures in [0, 1], over pixels whose flow there and back agrees; DIS flow, "
        "FlowNet2 there. Blur lowers it, below the source's own too, which is noise that no method needs to keep."
    ),
    "added_jitter": (
        "Added jitter: mean of |d_t+1 - 2 d_t + d_t-1| over 68 dlib landmarks, d = reconstruction's minus source's, in "
        "percent of the distance between the eyes. The predictor's noise alone makes 0.6 to 0.8 %."
    ),
    "motion_followed": (
        "Motion followed: 1 - sum |d_t+1 - d_t|^2 / sum |x_t+1 - x_t|^2, x = the source's landmarks. 1 is all of the "
        "source's motion, 0 a face at rest."
    ),
    "tlp": (
        "tLP (Chu et al., 2020): mean of |LP(x_t, x_t+1) - LP(y_t, y_t+1)| over consecutive frames of source x and "
        "reconstruction y; LP = ST-LPIPS, LPIPS there."
    ),
}
FIGURE = "figure9"
FIGURE_METRICS = {"st_lpips": ("ST-LPIPS", 3), "id": ("ID", 2)}
LOOPS = 2


def evaluate(
    places: Places,
    profile: Profile,
    *,
    methods: Sequence[str] | None = None,
    clips: int | None = None,
    frames: int | None = None,
    subsets: Mapping[str, int] | None = None,
    processes: int = 1,
) -> None:
    """Measure the inversions of the clips and write ``measurements/clips*.{csv,json}``.

    ``methods`` None takes every method that has inversions; ``clips`` the first so many by name; ``frames`` the last
    so many of each; ``subsets`` (METHOD -> number) the first so many clips for a method that is too slow for all;
    ``processes`` share the clips, and the numbers do not depend on how many they are. A run that was stopped is
    continued.
    """
    folders = {method: places.clip_inversions / method for method in methods or _inverted(places)}
    for method, folder in folders.items():
        if not folder.is_dir():
            raise Refusal(f"there are no inversions by {method!r} in {folder}: run `make repro`, which makes them")
    sources = read_clips(places.clips, limit=clips, frames=frames)
    build = functools.partial(profile.clip_suite, places.test / MEAN_DESCRIPTOR)
    suite = build()
    sizes = f"{profile.resolution} {profile.measured}"
    basis = f"{code_sha256()} {sha256(places.test / MEAN_DESCRIPTOR)} {sizes} {profile.device}"
    parts = Parts(places.measurements / ".parts" / FRAMES, basis)
    options: dict[str, Any] = {
        "resolution": profile.resolution,
        "measured": profile.measured,
        "device": profile.device,
        "subsets": subsets,
        "parts": parts,
    }
    clip_measurement.measure_ahead(sources, folders, build, processes=processes, **options)
    clip_measurement.measure(sources, folders, suite, places.measurements, **options)
    parts.remove()


@dataclass(frozen=True)
class Judgement:
    """Both tables' measurements, what follows from them, and the values that they are made of.

    Attributes
    ----------
    of_frames, over_time : Judged
        By metrics of single frames, and by those over time.
    frames, clips : DataFrame
        Rows of single frames, and of single clips by the temporal metrics.
    source : dict
        METRIC -> cell, of the source by the temporal metrics.
    """

    of_frames: Judged
    over_time: Judged
    frames: pd.DataFrame
    clips: pd.DataFrame
    source: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, places: Places) -> Judgement:
        """Of what :func:`evaluate` wrote."""
        results, frames = measurement.read(FRAMES, places.measurements)
        results = for_readers(results)
        temporal, clips = measurement.read(TEMPORAL, places.measurements)
        own = clips[clips["method"] == SOURCE]
        contest = {key: value for key, value in temporal.metrics.items() if key != OWN_JITTER}
        return cls(
            Judged.of(results, per_clip(frames), published_orderings("table2")),
            Judged.of(
                replace(temporal, metrics=contest), clips[clips["method"] != SOURCE], published_orderings("stability")
            ),
            frames,
            clips,
            plain({metric: mean_cell(own[metric], "clips") for metric in temporal.metrics}),
        )

    @property
    def judged(self) -> tuple[Judged, Judged]:
        return self.of_frames, self.over_time


def render(places: Places, origin: Mapping[str, Any], *, profile: str = "embedded") -> list[Table]:
    """Write ``table2.{json,md,csv,tex}`` from the measurements; ``origin`` is the provenance."""
    judgement = Judgement.read(places)
    tables = tables_of(judgement, profile, Absent.read(places.measurements))
    results = {
        "metrics": {key: value for each in judgement.judged for key, value in each.results.metrics.items()},
        "profile": profile,
        "provenance": dict(origin),
        "frames": _frame_counts(judgement.frames),
        "source": judgement.source,
        "sets": {each.results.name: each.as_json() for each in judgement.judged},
    }
    write_forms(places.reports / "table2", results, tables)
    return tables


def illustrate(places: Places, *, resolution: int = 256, frames: int | None = None) -> None:
    """Write ``figure9.{png,pdf}`` and the looping clips ``clips/NN.webp`` of what was measured."""
    results, rows = measurement.read(FRAMES, places.measurements)
    measured = set(rows["picture"])
    clips = [clip for clip in read_clips(places.clips, frames=frames) if measured & {p.stem for p in clip.frames}]
    labels = contestants(_in_order(results.methods))
    folders = {method: places.clip_inversions / method for method in labels}
    first = clip_with_extremes(clips)
    metrics = {key: printed for key, printed in FIGURE_METRICS.items() if key in rows}
    save(filmstrip(first, folders, labels, rows, metrics, resolution=resolution), places.reports / f"{FIGURE}.png")
    loops = [first, *(clip for clip in clips if clip is not first)][:LOOPS]
    for path in (places.reports / "clips").glob("*.webp"):
        path.unlink()
    for clip in loops:
        write_looping_clip(clip, folders, labels, places.reports / "clips" / f"{clip.name}.webp")


def tables_of(judgement: Judgement, profile: str = "embedded", absent: Absent | None = None) -> list[Table]:
    """Table 2 with the paper's beside it, and the table of stability; ``absent`` is what could not be measured."""
    results, counts = judgement.of_frames.results, _frame_counts(judgement.frames)
    clips = f"{results.n} clip{'s' * (results.n != 1)}"
    per_frame = set_table(
        judgement.of_frames,
        title=f"{TITLES.get(profile, 'Talking-face clips')}: {clips}, {counts['frames']} frames",
        decimals=DECIMALS,
        beside=published("table2"),
        notes=_notes_on_frames(counts, profile),
        wording=CLIPS,
        absent=absent,
    )
    extreme = _extreme_poses(judgement)
    per_frame = replace(per_frame, under=[*per_frame.under, *([extreme] if extreme else [])])
    pairs = _pairs_used(judgement)
    stability = set_table(
        judgement.over_time,
        title=f"Stability over time: {clips}",
        decimals=DECIMALS,
        references=[
            Row(SOURCE, "Source", {key: estimate(cell) for key, cell in judgement.source.items()}, competes=False)
        ],
        metric_notes=lambda metric: [DEFINITIONS[metric]] if metric in DEFINITIONS else [],
        notes=[*pairs, *_distances_from_1(judgement), *_own_jitter(judgement)],
        wording=CLIPS,
        absent=absent,
    )
    return [per_frame, stability]


def _frame_counts(frames: pd.DataFrame) -> dict[str, Any]:
    """Of the whole set: frames, the fewest and most of a clip, those with an extreme pose, those whose crop was
    interpolated, and frames between them that have no crop."""
    each = frames.drop_duplicates("picture")
    clips = [sorted(map(number_of, names)) for _, names in each.groupby(each["picture"].map(clip_of))["picture"]]
    return {
        "frames": len(each),
        "fewest": min(map(len, clips)),
        "most": max(map(len, clips)),
        "extreme": int(each[EXTREME].sum()),
        "interpolated": int(each[INTERPOLATED].sum()),
        "without_crop": sum(numbers[-1] - numbers[0] + 1 - len(numbers) for numbers in clips),
    }


def _notes_on_frames(counts: Mapping[str, Any], profile: str) -> list[str]:
    length = counts["fewest"] if counts["fewest"] == counts["most"] else f"{counts['fewest']} to {counts['most']}"
    notes = [
        f"Means over clips of means over the last {length} frames of each; aligned crops, as read back from the video."
    ]
    notes += [ORIGINS[profile]] if profile in ORIGINS else []
    if counts["interpolated"] or counts["without_crop"]:
        notes.append(
            f"{counts['interpolated']} frames are cut at a place interpolated between neighbours, as no face was found "
            f"in them; {counts['without_crop']} more have no crop and are not measured."
        )
    return notes


def _pairs_used(judgement: Judgement) -> list[str]:
    """How many pairs of frames stand behind the temporal values, a sentence each for full and for reduced counts."""
    methods = judgement.clips[judgement.clips["method"] != SOURCE]
    metrics = [key for key in judgement.over_time.results.metrics if f"{key}_used" in methods]
    whole, fewer = [], []
    for metric in metrics:
        label = judgement.over_time.results.metrics[metric]["label"]
        sums = methods.groupby("method")[[f"{metric}_expected", f"{metric}_used"]].sum()
        whole.append(f"{label} {int(sums[f'{metric}_expected'].max())}")
        for method, (expected, used) in zip(sums.index, sums.to_numpy(int), strict=True):
            if used < expected:
                fewer.append(f"{ROWS.get(method, method)}, {label}: {used} of {expected}")
    notes = [f"Pairs of frames (triples for the jitter, frames for the lowest ID) of all clips: {', '.join(whole)}."]
    notes.append(f"Fewer were used for {'; '.join(fewer)}." if fewer else "Every method used all of its pairs.")
    return notes


def _distances_from_1(judgement: Judgement) -> list[str]:
    """Of the relative identities, which exceed 1 where a face moves less than the source does."""
    notes = []
    for metric in ("tl_id", "tg_id"):
        if metric in judgement.clips:
            apart = (judgement.clips[metric] - 1).abs().groupby(judgement.clips["method"]).mean()
            means = ", ".join(f"{label} {apart[method]:.3f}" for method, label in _in_order(apart.index).items())
            notes.append(f"Mean distance of {judgement.over_time.results.metrics[metric]['label']} from 1: {means}.")
    return notes


def _in_order(methods: Iterable[str]) -> dict[str, str]:
    """METHOD -> its name in print, in the order of the rows, without the source."""
    known = set(methods) - {SOURCE}
    return {method: ROWS.get(method, method) for method in [*sorted(known - set(ROWS)), *ROWS] if method in known}


def _own_jitter(judgement: Judgement) -> list[str]:
    """The plain second differences, which are motion and noise as well."""
    if OWN_JITTER not in judgement.clips:
        return []
    own = judgement.clips.groupby("method")[OWN_JITTER].mean()
    said = [f"{label} {own[method]:.2f}" for method, label in _in_order(own.index).items()]
    return [
        f"The same second differences of the landmarks alone, which are motion, trembling and noise together: source "
        f"{own[SOURCE]:.2f} %; {', '.join(said)} %."
    ]


def _extreme_poses(judgement: Judgement) -> TextTable | None:
    """Frames with an extreme pose beside the others of the same clips; the paper's Figure 9 says that its method alone
    withstands them."""
    frames = judgement.frames.assign(clip=judgement.frames["picture"].map(clip_of))
    frames = frames[frames["clip"].isin(frames.loc[frames[EXTREME], "clip"].unique())]
    if frames.empty:
        return None
    metrics = {key: judgement.of_frames.results.metrics[key] for key in ("psnr", "st_lpips", "id") if key in frames}
    rows = []
    for method, label in _in_order(judgement.of_frames.results.methods).items():
        of_one = frames[frames["method"] == method]
        if of_one.empty:
            continue
        row = [label]
        for key in metrics:
            values = of_one.groupby([EXTREME, "clip"])[key].mean().groupby(EXTREME).mean()
            row += [_printed(values.get(extreme), DECIMALS.get(key, 3)) for extreme in (False, True)]
        counts = of_one.groupby(EXTREME)["picture"].nunique()
        rows.append([*row, f"{counts.get(False, 0)} / {counts.get(True, 0)}", str(of_one["clip"].nunique())])
    arrows = {key: "↑" if metric["higher_is_better"] else "↓" for key, metric in metrics.items()}
    headings = [
        f"{metric['label']} {arrows[key]}, {which}" for key, metric in metrics.items() for which in ("other", "extreme")
    ]
    notes = [
        "Means over the clips that have frames with an extreme pose, of their other frames and of those; few clips, so "
        "no test."
    ]
    return TextTable("clips-extreme", "Extreme poses", ["Method", *headings, "Frames", "Clips"], rows, notes)


def _printed(value: float | None, decimals: int) -> str:
    return ABSENT if value is None or pd.isna(value) else f"{value:.{decimals}f}"


def section(places: Places) -> Section | None:
    """Of the report; None where no clips were measured."""
    if not (places.measurements / f"{FRAMES}.json").is_file():
        return None
    judgement = Judgement.read(places)
    rendered = places.reports / "table2.json"
    profile = json.loads(rendered.read_text(encoding="utf-8"))["profile"] if rendered.is_file() else "embedded"
    every = _in_order(judgement.of_frames.results.methods)
    illustrations = []
    record = places.reports / f"{FIGURE}.png"
    if record.is_file():
        illustrations.append(
            Illustration(
                record,
                caption(list(FIGURE_METRICS.values())) + left_out(every),
                "Frames of a clip, the source above, each method's below.",
            )
        )
    labels = list(contestants(every).values())
    for path in sorted((places.reports / "clips").glob("*.webp")):
        illustrations.append(
            Illustration(
                path,
                f"Clip {path.stem}, forwards and backwards at half speed: source, {', '.join(labels)}; line by line.",
                f"A face that moves, reconstructed by {len(labels)} methods side by side.",
            )
        )
    return Section(
        key="video",
        title="Video inversion (Table 2)",
        introduction=_introduction(judgement),
        tables=tables_of(judgement, profile, Absent.read(places.measurements)),
        illustrations=illustrations,
    )


def _introduction(judgement: Judgement) -> list[str]:
    """What was compared, and what of the paper's claims held."""
    counts = _frame_counts(judgement.frames)
    return [
        f"{judgement.of_frames.results.n} talking-face clips were inverted frame by frame; {counts['frames']} frames "
        "were measured, as they were read back from the video.",
        "The paper's order of the methods (its Table 2, every pair by every metric): "
        + verdicts(judgement.of_frames.orderings),
        "That its method is more stable than the others, which the paper says and does not measure: "
        + verdicts(judgement.over_time.orderings),
    ]


def verdicts(orderings: Sequence[Ordering]) -> str:
    """How many claims held, did not, could not be told, were not measured."""
    counts = {
        each: sum(len(o.by_verdict(each)) for o in orderings) for each in (HELD, NOT_HELD, NOT_SEPARABLE, NOT_MEASURED)
    }
    said = [f"{count} {verdict}" for verdict, count in counts.items() if count or verdict == HELD]
    return f"of {sum(counts.values())} claims {', '.join(said)}."


def origin_of(places: Places, profile: Profile, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Provenance: code, parameters, machine, and the hashes of assets, weights and clips."""
    inputs = {**profile.inputs, "clips": places.clips}
    return provenance(inputs, parameters)


def _inverted(places: Places) -> list[str]:
    """Every method that has inversions."""
    methods = sorted(path.name for path in places.clip_inversions.glob("*") if path.is_dir())
    if not methods:
        raise Refusal(f"{places.clip_inversions} has no inversions: run `make repro`, which makes them")
    return methods


@exit_on_refusal
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.table2",
        description="Measure inverted clips and print Table 2 and the table of stability.",
        epilog="example:\n  python -m eval.table2 --clips 4 --frames 6 --out runs/quick",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parameters = read_parameters()
    defaults = (parameters or {}).get("evaluate_clips") or {}
    parser.add_argument("--methods", metavar="A,B", help="default: all that have inversions")
    parser.add_argument(
        "--clips", type=int, metavar="N", default=defaults.get("clips"), help="only the first N clips by name"
    )
    parser.add_argument(
        "--frames",
        type=int,
        metavar="N",
        default=defaults.get("frames"),
        help="only the last N frames of each (default: %(default)s)",
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help="that share the measuring (default: one a core, or GPU)"
    )
    parser.add_argument("--render-only", action="store_true", help="tables and figures of what was measured before")
    parser.add_argument("--out", type=Path, metavar="DIR", default=Path("reports"), help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    arguments = parser.parse_args()
    for option in ("clips", "frames", "processes"):
        if (value := getattr(arguments, option)) is not None and value < 1:
            raise Refusal(f"--{option} is {value}: give at least 1")
    profile, places = Profile(device=usable_device(arguments.device)), Places(reports=arguments.out)
    if not arguments.render_only:
        keep_freed_memory()
        methods = arguments.methods.split(",") if arguments.methods else None
        evaluate(
            places,
            profile,
            methods=methods,
            clips=arguments.clips,
            frames=arguments.frames,
            subsets=defaults.get("subset"),
            processes=processes_for(profile.device, arguments.processes),
        )
    tables = render(places, origin_of(places, profile, parameters), profile=profile.name)
    illustrate(places, resolution=profile.resolution, frames=arguments.frames)
    console = Console()
    for table in tables:
        console.print(table.rich(console.width), "")
    console.print(f"written: {places.reports}/table2.{{md,csv,tex,json}}, {FIGURE}.{{png,pdf}}, clips/", style="dim")


if __name__ == "__main__":
    main()
