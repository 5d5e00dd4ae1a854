"""Every official set of pictures by its name: what it is, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eval.datasets import afhq, celeba_hq, ffhq, stanford_cars
from eval.datasets.dataset import DataSet
from fse.refusal import Refusal

Read = Callable[..., DataSet]
"""``read(path, allow_partial=...)``; that of cars also takes their ``form``."""


@dataclass(frozen=True)
class OfficialSet:
    """``count``: of pictures; ``used_for``: in the paper, or by others."""

    read: Read
    count: int
    used_for: str


def _cars(split: stanford_cars.Split, form: str) -> Read:
    return partial(stanford_cars.read, split=split, form=form)


def _animals(animal: afhq.Animal, split: afhq.Split, version: Any) -> OfficialSet:
    used = {"train": "training", "test": "evaluation"}[split] if version == 1 else "none of the paper's results"
    read = partial(afhq.read, animal=animal, split=split, version=version)
    return OfficialSet(read, afhq.COUNTS[version][animal, split], f"{used}, {animal}s")


SETS: dict[str, OfficialSet] = {
    "celeba_hq_1000": OfficialSet(partial(celeba_hq.first, count=1_000), 1_000, "Table 1"),
    "celeba_hq_10000": OfficialSet(partial(celeba_hq.first, count=10_000), 10_000, "editing directions"),
    "celeba_hq_test": OfficialSet(celeba_hq.official_test, celeba_hq.TEST_COUNT, "the measurements of other papers"),
    "ffhq": OfficialSet(ffhq.read, ffhq.COUNT, "training, faces"),
    "stanford_cars_train": OfficialSet(_cars("train", "padded"), 8_144, "training, cars"),
    "stanford_cars_test": OfficialSet(_cars("test", "padded"), 8_041, "evaluation, cars: 512 x 512, padded, for FSE"),
    "stanford_cars_test_half": OfficialSet(
        _cars("test", "half"), 8_041, "evaluation, cars: 256 x 192, for pSp's family"
    ),
    "stanford_cars_test_full": OfficialSet(_cars("test", "full"), 8_041, "evaluation, cars: 512 x 384"),
    "afhq_cat_train": _animals("cat", "train", 1),
    "afhq_cat_test": _animals("cat", "test", 1),
    "afhq_dog_train": _animals("dog", "train", 1),
    "afhq_dog_test": _animals("dog", "test", 1),
    "afhq_v2_cat_test": _animals("cat", "test", 2),
    "afhq_v2_dog_test": _animals("dog", "test", 2),
}


def read_official(name: str, path: Path, *, allow_partial: bool = False) -> DataSet:
    """The set ``name`` of :data:`SETS`, of the folder or archive ``path``.

    Raises
    ------
    Refusal
        There is no such set, or as its reader says.
    """
    if name not in SETS:
        raise Refusal(f"there is no official set {name!r}; choose one of {', '.join(SETS)}")
    return SETS[name].read(path, allow_partial=allow_partial)
