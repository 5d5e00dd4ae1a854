"""``status`` and ``fetch`` of ``python -m pipelines.assets``: what of the official assets is here, and the rest."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.official_assets import CATALOGUE, Asset, Catalogue, Terms, read_official_catalogue
from pipelines.official_fetch import Fetcher
from pipelines.official_folder import AssetState, OfficialFolder, Survey, how_to_get

FOLDER = Path("data/official")
_LONG_DIGEST = re.compile(r"\b[0-9a-f]{32,64}\b")
_STYLES = {"here": "green", "incomplete": "yellow", "wrong": "red", "missing": "red"}


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``status`` and ``fetch`` to a command line."""
    status = commands.add_parser("status", help="what of the official assets is here, and what a missing one blocks")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.add_argument("--allow-partial", action="store_true", help="count data sets that have some of their pictures")
    fetch = commands.add_parser("fetch", help="download official assets, the named ones or all that a table needs")
    fetch.add_argument("ids", nargs="*", metavar="ID", help="as `status` lists them")
    fetch.add_argument("--tables", nargs="+", metavar="TABLE", default=None, help="what these tables need, e.g. T1 T2")
    fetch.add_argument("--accept", action="store_true", help="accept the terms of use, which are printed")
    fetch.add_argument(
        "--retries", type=int, default=5, metavar="N", help="of a transfer that breaks off (%(default)s)"
    )
    fetch.add_argument("--cookies", type=Path, metavar="FILE", help="of a browser that is signed in to Google")
    for command in (status, fetch):
        command.add_argument("--folder", type=Path, default=FOLDER, help="the official folder (%(default)s)")
        command.add_argument("--official-catalogue", type=Path, default=CATALOGUE, help=argparse.SUPPRESS)


def run(chosen: argparse.Namespace) -> None:
    """The command that was chosen."""
    catalogue = read_official_catalogue(chosen.official_catalogue)
    folder = OfficialFolder(chosen.folder, catalogue)
    if chosen.command == "fetch":
        assets = _wanted(catalogue, chosen.ids, chosen.tables)
        Fetcher(folder, retries=chosen.retries, cookies=chosen.cookies).fetch(
            assets, lambda terms: _ask(terms, accept=chosen.accept)
        )
        return
    survey = folder.survey(allow_partial=chosen.allow_partial)
    if chosen.json:
        print(json.dumps(as_json(survey, catalogue), indent=2, ensure_ascii=False))
    else:
        show(survey, catalogue, folder.root, Console())


def _wanted(catalogue: Catalogue, ids: Sequence[str], tables: Sequence[str] | None) -> list[Asset]:
    """The named assets, or those of the tables; without either, all that some table needs and that can be fetched."""
    if ids:
        return [catalogue.asset(name) for name in ids]
    needed = catalogue.needed_by(tables or catalogue.tables)
    return [asset for asset in needed if asset.can_be_fetched and asset.status == "released"]


def _ask(terms: Sequence[Terms], *, accept: bool) -> bool:
    """Print the terms; accepted by ``accept`` or, on a terminal, by a person who says yes."""
    print("Terms of use:")
    for each in terms:
        print(f"  {each.title}: {each.text} {each.url}")
    if accept:
        return True
    if not sys.stdin.isatty():
        return False
    return input("Accept them? [y/N] ").strip().lower() in ("y", "yes")


def show(survey: Survey, catalogue: Catalogue, root: Path, console: Console) -> None:
    """Print a table of the assets, one of the paper's tables, and the files that are no asset."""
    table = Table(title=f"Official assets in {root}", title_justify="left")
    for heading, share in (("asset", 4), ("state", 5), ("blocks", 3), ("how to get it", 4)):
        table.add_column(heading, ratio=share, overflow="fold")
    group = None
    for state in survey.assets.values():
        asset, here = state.asset, state.state == "here"
        if asset.group != group:
            group = asset.group
            table.add_section()
        table.add_row(
            Text(asset.id, style="bold") + Text(f"\n{asset.what}", style="dim"),
            Text(state.state, style=_STYLES.get(state.state, "dim")) + Text(_details(state), style="dim"),
            "" if here else "\n".join(catalogue.blocks(asset)) or Text("nothing", style="dim"),
            "" if here else Text(asset.by_hand or f"fetch {asset.id}") + Text(_size(asset), style="dim"),
        )
    console.print(table)
    tables = Table(
        "table",
        "what is missing for it",
        title="The paper's tables, and what they lack; `python -m pipelines.assets fetch ID` downloads",
        title_justify="left",
    )
    for key, title in catalogue.tables.items():
        lacking = [asset.id for asset in catalogue.needed_by([key]) if survey.assets[asset.id].state != "here"]
        tables.add_row(f"{key}: {title}", ", ".join(lacking) or Text("nothing", style="green"))
    console.print(tables)
    for path, reason in survey.unrecognised.items():
        console.print(Text(f"not recognised: {path}: {reason}"), soft_wrap=True)
    if any(each.how.startswith("by") for state in survey.assets.values() for each in state.files):
        console.print(
            Text("Digests that nobody publishes are recorded at the first sight of a file, and held from then on.")
        )


def _details(state: AssetState) -> str:
    """What is known of the asset's files, under its state."""
    lines = [f"{each.path.name}: {_LONG_DIGEST.sub(_shortened, each.how)}" for each in state.files if each.path][:3]
    here = sum(each.state == "here" for each in state.files)
    if len(state.files) > 3 and here:
        lines = [f"{here} of {len(state.files)} files", *lines[:1]]
    lines += [f"{name}: {said}" for name, said in state.sets.items()]
    lines += [state.asset.note] if state.asset.note and state.state != "here" else []
    return "".join(f"\n{line}" for line in lines)


def _shortened(digest: re.Match[str]) -> str:
    return f"{digest[0][:12]}..."


def _size(asset: Asset) -> str:
    sizes = [file.how_large for file in asset.files]
    return f" ({sizes[0]}{f', {len(sizes)} files' if len(sizes) > 1 else ''})" if sizes else ""


def as_json(survey: Survey, catalogue: Catalogue) -> dict[str, Any]:
    """The same for programs."""
    return {
        "assets": {
            name: {
                "what": state.asset.what,
                "state": state.state,
                "blocks": [need.model_dump() for need in state.asset.needed_for] if state.state != "here" else [],
                "how_to_get": None if state.state == "here" else how_to_get(state.asset),
                "licence": state.asset.licence,
                "files": [
                    {
                        "file": each.file.file,
                        "state": each.state,
                        "path": str(each.path) if each.path else None,
                        "how": each.how,
                        "size": each.file.size,
                        "sources": [source.address(each.file.name) for source in each.file.sources],
                    }
                    for each in state.files
                ],
                "sets": dict(state.sets),
            }
            for name, state in survey.assets.items()
        },
        "tables": {
            key: {
                "title": title,
                "missing": [a.id for a in catalogue.needed_by([key]) if survey.assets[a.id].state != "here"],
            }
            for key, title in catalogue.tables.items()
        },
        "unrecognised": {str(path): reason for path, reason in survey.unrecognised.items()},
    }
