"""The head of the page: what was compared, on what, by whom, when, from which revision and assets; and who came out
best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.profile import Profile
from eval.provenance import authorship
from eval.tables import Table

PAPER = (
    "Yao, Newson, Gousseau, Hellier: A Style-Based GAN Encoder for High Fidelity Reconstruction of Images and Videos. "
    "ECCV 2022, arXiv 2202.02183"
)
GENERATORS = {"embedded": "MobileStyleGAN (FFHQ faces), the generator of the embedded profile, 256 px"}
OFFICIAL = "The official generators; metrics at the size that the protocol of pSp's family takes"
HASH = 12  # characters of a hash that the head shows; the provenance has all


def facts(tables: Sequence[Table], profile: Profile, origin: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(question, answer), in the order of the page."""
    methods = dict.fromkeys(row.label for table in tables for row in table.rows if row.cells and row.competes)
    generator = GENERATORS.get(profile.name, OFFICIAL)
    code, machine = origin["code"], origin["machine"]
    written = authorship()
    revision = f"{(code['revision'] or '')[:HASH]}{', with changes that are not committed' * bool(code['dirty'])}"
    assets = [f"{name} {digest[:HASH]}" for name, digest in origin["inputs"].items() if digest]
    missing = [name for name, digest in origin["inputs"].items() if not digest]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"
    found = [
        ("Compared", f"{'; '.join(methods)}. After: {PAPER}."),
        ("On", f"{'; '.join(table.title for table in tables)}. {generator}."),
        ("By", f"{written[0]}, author of the revision" if written else "not known: the code has no Git revision"),
        ("When", f"{written[1]}, date of the revision" if written else "not known: the code has no Git revision"),
        ("Revision", revision if code["revision"] else f"none; sources {code['sha256'][:HASH]}"),
        ("Assets", "SHA-256 of " + ", ".join(assets) if assets else "none"),
        ("Machine", ", ".join(part for part in (machine["cpu"], machine["gpu"], threads) if part)),
    ]
    return [*found, ("Not there", ", ".join(missing))] if missing else found


def winners(table: Table) -> str:
    """In a sentence, whose mean is best by which column of a table; what stands in bold there."""
    best: dict[str, list[str]] = {}
    for column in table.columns:
        leaders = [row.label for row in table.rows if row.key in table.best(column)]
        if leaders:
            best.setdefault(" and ".join(leaders), []).append(column.label)
    if not best:
        return f"{table.title}: nothing to compare."
    said = (f"{leader} by {_enumerated(labels)}" for leader, labels in best.items())
    return f"{table.title}. Best mean: {'; '.join(said)}."


def _enumerated(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
