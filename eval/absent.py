"""What a table would show and could not be measured, with the reason: rows, columns, whole sets.

In the `paper` profile official files may be missing, or were never released. Then everything else is measured, and the
tables say in the place of the numbers why there are none. Written by the stages that measure, each its own file
``measurements/absent*.json``, and read as one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fse.refusal import Refusal

PICTURES, CLIPS = "absent.json", "absent_clips.json"
"""The files: of sets of pictures, and of clips."""


@dataclass(frozen=True)
class Absent:
    """
    Attributes
    ----------
    rows : mapping
        SET -> METHOD -> reason.
    columns : mapping
        SET -> a metric's name in print -> reason.
    sets : mapping
        SET -> reason.
    """

    rows: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, measurements: Path) -> Absent:
        """Nothing is absent where the run has left no record."""
        found = cls()
        for path in (measurements / PICTURES, measurements / CLIPS):
            if path.is_file():
                try:
                    each = cls(**json.loads(path.read_text(encoding="utf-8")))
                    found = cls(
                        {**found.rows, **each.rows}, {**found.columns, **each.columns}, {**found.sets, **each.sets}
                    )
                except (ValueError, TypeError) as error:
                    raise Refusal(f"{path} cannot be read ({error}): measure again") from error
        return found

    def write(self, path: Path) -> None:
        """To one of the two files."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")

    def notes(self, name: str, labels: Mapping[str, str]) -> list[str]:
        """Sentences under the table of a set, one a reason."""
        reasons: dict[str, list[str]] = {}
        for method, reason in self.rows.get(name, {}).items():
            reasons.setdefault(reason, []).append(labels.get(method, method))
        for label, reason in self.columns.get(name, {}).items():
            reasons.setdefault(reason, []).append(label)
        return [f"Not measured: {', '.join(what)}: {reason}." for reason, what in reasons.items()]
