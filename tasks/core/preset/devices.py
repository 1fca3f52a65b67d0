"""The devices that training will run on: as the settings say, or as the driver tells."""

from __future__ import annotations

import functools
import re
import subprocess
from dataclasses import dataclass

from .. import settings
from ..engine import pools
from ..errors import UserError
from ..toolchains import torchbuild

# Dense products in 16 bits, 10^12 operations a second, by the makers' data sheets.
PEAKS = {
    "B200": 2250, "GH200": 989, "H200": 989, "H100": 989, "H800": 989, "H20": 148, "A100": 312,
    "A800": 312, "L40S": 362, "L40": 181, "L4": 121, "A10G": 70, "A10": 125, "A40": 150,
    "RTX 6000 ADA": 364, "A6000": 155, "5090": 210, "4090": 165, "4080": 97, "3090": 71,
    "V100": 125, "T4": 65,
}  # fmt: skip
# Those without bfloat16.
OLD = ("V100", "T4", "P100", "2080")
WISH = re.compile(r"(?:([1-9]\d*) *x *)?([1-9]\d*(?:\.\d+)?) *GB(?: +(\S.*))?", re.IGNORECASE)


@dataclass(frozen=True)
class Devices:
    """Some equal devices; none is a machine that trains on its processor.

    Attributes:
        memory: of each, in bytes.
        name: the maker's, or nothing.
    """

    count: int = 0
    memory: int = 0
    name: str = ""

    @property
    def peak(self) -> float:
        """Operations a second of each; an A100's where the name is not known."""
        return 1e12 * next((p for name, p in PEAKS.items() if name in self.name.upper()), 312)

    @property
    def has_bfloat16(self) -> bool:
        """Whether they compute with bfloat16."""
        return not any(name in self.name.upper() for name in OLD)

    def __str__(self) -> str:
        if not self.count:
            return "no GPU"
        return f"{self.count} x {self.memory / 1e9:.0f} GB{f' {self.name}' if self.name else ''}"


def found() -> Devices:
    """Return the devices.

    Raises:
        UserError: the setting is not of its form, or there is none and the driver tells no size.
    """
    wish = settings.current().devices
    if not wish:
        return _asked() if torchbuild.has_gpu() else Devices()
    if wish.lower() == "none":
        return Devices()
    match = WISH.fullmatch(wish.strip())
    if not match:
        where = settings.current().where("devices")
        raise UserError(
            f"{where}: '{wish}' names no devices; say it as in `4 x 80 GB H100`, or none"
        )
    count, memory, name = match.groups()
    return Devices(int(count or 1), int(float(memory) * 1e9), name or "")


@functools.cache
def _asked() -> Devices:
    """Return what the driver tells of those this build may see; all count as the smallest."""
    visible = tuple(name.strip() for name in pools.names())
    told = subprocess.run(
        ["nvidia-smi", "--query-gpu=index,uuid,memory.total,name", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
    )
    if told.returncode or not visible or visible[0] == "-1":
        return Devices()
    rows = [line.split(", ", 3) for line in told.stdout.splitlines() if line.count(", ") > 2]
    # CUDA takes a number, or so much of a UUID as names one; shared memory is told as [N/A].
    sizes = [
        (int(memory), name)
        for index, uuid, memory, name in rows
        if memory.isdigit() and (index in visible or uuid.startswith(visible))
    ]
    if not sizes:
        raise UserError(
            f"nvidia-smi tells no memory of the devices {','.join(visible)}; say them in "
            "MODELWRIGHT_DEVICES, as in `1 x 128 GB GB10`"
        )
    memory, name = min(sizes)
    return Devices(len(sizes), memory * 2**20, name)
