"""What others have measured of the same methods since the paper, in tables of their own (``published.yaml``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from eval.contest import ROWS
from eval.tables import Column, Estimate, Row, Table

_METRICS = {  # key -> label, whether higher is better
    "psnr": ("PSNR", True),
    "mse": ("MSE", False),
    "lpips": ("LPIPS", False),
    "ms_ssim": ("MS-SSIM", True),
    "id": ("ID", True),
    "fid": ("FID", False),
}


def published_by_others(domain: str) -> list[Table]:
    """Of ``faces`` or ``cars``: a table a source; none for other domains.

    Their rows take no part in any comparison of ours, and none is bold.
    """
    text = Path(__file__).with_name("published.yaml").read_text(encoding="utf-8")
    others = yaml.safe_load(text)["others"]
    return [_table(domain, key, each, others["labels"]) for key, each in others.get(domain, {}).items()]


def _table(domain: str, key: str, source: dict[str, Any], labels: dict[str, str]) -> Table:
    columns = [Column(metric, *_METRICS[metric], source["decimals"][metric]) for metric in source["metrics"]]
    rows = [
        Row(
            method,
            ROWS.get(method) or labels[method],
            {metric: Estimate(value) for metric, value in zip(source["metrics"], values, strict=True)},
            competes=False,
        )
        for method, values in source["methods"].items()
    ]
    pictures = f", {source['n']} pictures" if source["n"] else ""
    title = f"Published by others, {domain}: {source['label']}{pictures}"
    return Table(f"others-{domain}-{key}", title, columns, rows, notes=[source["note"]])
