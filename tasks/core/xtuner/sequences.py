"""Devices that share a sequence: without flash-attn, and learning what one device would learn.

xtuner 0.2.0 asks for flash-attn, although its attention goes through transformers' registry, where
torch's own kernels do as well.  Its loss leaves out the token at each cut, and weighs devices alike
however many targets they have; where one has none, as in padding, it is no number.

Part of the programs that run inside the xtuner toolchain.
"""

from __future__ import annotations

import importlib
from typing import Any

IGNORED = -100


def prepare() -> None:
    """Change how sequences are shared, in this process alone."""
    # Imported first, this takes torch's kernels where flash-attn is not there.
    from xtuner.model import SupervisedFinetune

    dispatch: Any = importlib.import_module("xtuner.model.modules.dispatch")
    dispatch.SUPPORT_FLASH2 = True
    SupervisedFinetune._compute_sequence_parallel_loss = compute_loss


def compute_loss(self: Any, data: dict[str, Any]) -> dict[str, Any]:
    """Return the mean loss of a batch of which each device has a piece of every sequence.

    Its value is the same on all of them; its gradient is this device's share, and the mean over the
    devices that DeepSpeed takes is the whole.
    """
    from torch import distributed
    from torch.nn.functional import cross_entropy
    from xtuner.parallel.sequence import get_sequence_parallel_group

    group = get_sequence_parallel_group()
    # A token's target is the next one, which may lie on the next device.
    labels = data["labels"].roll(-1, dims=1)
    labels[:, -1] = IGNORED
    # Rows are padded at their end, which no token before it attends to.
    part = self._split_for_sequence_parallel({**data, "labels": labels, "attention_mask": None})
    targets = part.pop("labels")
    logits = self.llm(**part).logits.float()
    total = cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    count = (labels != IGNORED).sum()
    share = total / count
    whole = share.detach().clone()
    distributed.all_reduce(whole, group=group)
    return {"loss": whole + distributed.get_world_size(group) * (share - share.detach())}
