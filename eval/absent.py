"""What a table would show and could not be measured, with the reason: rows, columns, whole sets.

In the `paper` profile official files may be missing, or were never released. Then everything else is measured, and the
tables say in the place of the numbers why there are none. Written by the run, ``measurements/absent.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fse.refusal import Refusal

RECORD = "absent.json"


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
        path = measurements / RECORD
        if not path.is_file():
            return cls()
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise Refusal(f"{path} cannot be read ({error}): measure again") from error

    def write(self, measurements: Path) -> None:
        measurements.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (measurements / RECORD).write_text(text, encoding="utf-8")

    def notes(self, name: str, labels: Mapping[str, str]) -> list[str]:
        """Sentences under the table of a set, one a reason."""
        reasons: dict[str, list[str]] = {}
        for method, reason in self.rows.get(name, {}).items():
            reasons.setdefault(reason, []).append(labels.get(method, method))
        for label, reason in self.columns.get(name, {}).items():
            reasons.setdefault(reason, []).append(label)
        return [f"Not measured: {', '.join(what)}: {reason}." for reason, what in reasons.items()]
