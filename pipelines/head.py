"""DVC stage: fit the picture heads that end MobileStyleGAN at 128 and 256 px, and judge them held out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from fse.generators.mobilestylegan import MobileStyleGAN, read_mobilestylegan
from fse.generators.picture_head import HEAD_SIDES
from fse.generators.picture_head_fit import fit_head, head_codes, head_psnr, render_targets
from fse.latents import mean_code, sample_z
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


def _progress(items: Iterable[int], name: str) -> Iterable[int]:
    bar: Iterable[int] = tqdm(items, desc=name, mininterval=1)
    return bar


@exit_on_refusal
def main() -> None:
    """Write ``weights/picture_head.safetensors`` and ``reports/head.json``; renders are kept in ``runs/head``."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.head", description=__doc__)
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--weights", type=Path, default=Path("weights/picture_head.safetensors"))
    parser.add_argument("--report", type=Path, default=Path("reports/head.json"))
    parser.add_argument("--runs", type=Path, default=Path("runs/head"))
    arguments = parser.parse_args()
    parameters = read_parameters().head

    full = MobileStyleGAN()
    full.load_state_dict(read_mobilestylegan(arguments.assets / "mobilestylegan"), strict=False)
    full.requires_grad_(False).eval()
    codes = head_codes(full, parameters.seed, parameters.count)
    test_codes = head_codes(full, parameters.test_seed, parameters.test_count)
    targets = render_targets(full, codes, HEAD_SIDES, arguments.runs / f"seed{parameters.seed}", _progress)
    test_targets = render_targets(
        full, test_codes, HEAD_SIDES, arguments.runs / f"seed{parameters.test_seed}", _progress
    )

    state = {"mean_code": mean_code(full, sample_z(parameters.seed + 1, 65536))}
    report = {}
    for side in HEAD_SIDES:
        head = fit_head(
            full,
            codes,
            targets[side],
            steps=parameters.steps,
            batch=parameters.batch,
            learning_rate=parameters.learning_rate,
            seed=parameters.seed,
            progress=_progress,
        )
        state |= {f"{side}.{name}": tensor.contiguous() for name, tensor in head.fitted_state().items()}
        psnr = head_psnr(full, head, test_codes, test_targets[side])
        mixed = torch.arange(len(psnr)) % 2 == 0
        report[str(side)] = {
            "psnr_mean": round(psnr.mean().item(), 3),
            "psnr_mean_w": round(psnr[~mixed].mean().item(), 3),
            "psnr_mean_mixed": round(psnr[mixed].mean().item(), 3),
            "psnr_10_percent": round(psnr.quantile(0.1).item(), 3),
            "parameters": sum(tensor.numel() for tensor in head.fitted_state().values()),
            "codes": len(psnr),
        }
    arguments.weights.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    part = arguments.weights.with_suffix(".part")
    save_file(state, part, {"parameters": json.dumps(parameters.model_dump(), sort_keys=True)})
    part.replace(arguments.weights)
    arguments.report.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
