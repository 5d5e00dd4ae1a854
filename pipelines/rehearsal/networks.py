"""Stand-ins of the networks that losses and metrics need.

What an architecture leaves open is small here. AlexNet and Inception, whose sizes the metrics fix, have their official
ones; of AlexNet only the convolutions are written, which LPIPS reads: its classifier has 59 million numbers.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import alexnet, inception_v3, resnet50, vgg16

from fse.bisenet import BiSeNet, BiSeNetSize
from fse.face_recognition import ArcFace, FaceRecognitionSize, IRFace
from fse.trunk import TrunkSize
from pipelines.rehearsal.filling import fill_network, normal
from pipelines.rehearsal.pytorch_file_writer import write_pytorch

TRUNK = TrunkSize((16, 16, 16, 16), (1, 1, 1, 1), 16)
"""Of FSE's encoder and of ArcFace, whose weights it starts from."""

IR_WIDTHS, IR_DEPTHS = (16, 24, 32, 48), (1, 1, 1, 1)
"""Of the pSp family's trunks, whose stages are told apart by their widths."""

_OLD = {
    "backbone.pth", "79999_iter.pth", "model_ir_se50.pth", "CurricularFace_Backbone.pth",
    "pt_inception-2015-12-05-6726825d.pth",
}  # fmt: skip
"""From before PyTorch 1.6, by their dates."""


def write_networks(folder: Path) -> None:
    """Every file that holds a network and nothing else."""
    hub = folder / "hub" / "checkpoints"
    hub.mkdir(parents=True, exist_ok=True)
    ir = TrunkSize(IR_WIDTHS, IR_DEPTHS, 16, form="ir")
    networks: dict[Path, nn.Module] = {
        folder / "backbone.pth": ArcFace(FaceRecognitionSize(TRUNK)),
        folder / "79999_iter.pth": BiSeNet(BiSeNetSize(19, (16, 16, 16, 16), 16)),
        folder / "model_ir_se50.pth": IRFace(FaceRecognitionSize(TrunkSize(IR_WIDTHS, IR_DEPTHS, 16, form="ir_se"))),
        folder / "CurricularFace_Backbone.pth": IRFace(FaceRecognitionSize(ir, affine=False)),
        hub / "alexnet-owt-7be5be79.pth": nn.ModuleDict({"features": _meta(alexnet).get_submodule("features")}),
        hub / "pt_inception-2015-12-05-6726825d.pth": _meta(
            inception_v3, num_classes=1008, aux_logits=False, init_weights=False
        ),
    }
    for path, network in networks.items():
        fill_network(network, path.name)
        write_pytorch(network.state_dict(), path, modern=path.name not in _OLD)
    _write_unread(folder, hub)
    _write_torchscript(folder / "inception-2015-12-05.pt")


def _meta(build: Callable[..., nn.Module], **arguments: object) -> nn.Module:
    """A network of torchvision without its own initialisation, which would take seconds."""
    with torch.device("meta"):
        network = build(**arguments)
    network.to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return network


def _write_unread(folder: Path, hub: Path) -> None:
    """MoCo's query encoder, a ResNet-50 with two linear layers at its end, and torchvision's VGG-16, under their names.

    Nothing reads them yet, so their widths are a sixteenth.
    """
    with torch.device("meta"):
        resnet, vgg = resnet50(), vgg16()
        resnet.fc = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 128))
    state = {f"module.encoder_q.{name}": tensor for name, tensor in _narrowed(resnet, "moco").items()}
    content = {"epoch": 800, "arch": "resnet50", "state_dict": state}
    write_pytorch(content, folder / "moco_v2_800ep_pretrain.pth.tar", modern=False)
    write_pytorch(_narrowed(vgg, "vgg16"), hub / "vgg16-397923af.pth", modern=False)


def _narrowed(network: nn.Module, key: str) -> dict[str, Tensor]:
    def drawn(name: str, shape: torch.Size) -> Tensor:
        sides = tuple(side if side < 16 else side // 16 for side in shape)
        return 0.1 * torch.from_numpy(normal(f"{key} {name}", sides))

    return {name: drawn(name, tensor.shape) for name, tensor in network.state_dict().items()}


def _write_torchscript(path: Path) -> None:
    """The members of such an archive without a program in it."""
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in (("constants.pkl", b"\x80\x02)."), ("version", b"3\n")):
            archive.writestr(zipfile.ZipInfo(f"{path.stem}/{member}"), content)
