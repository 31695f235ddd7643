"""How large the demo is, and how long its models learn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

#: Raised whenever the same settings would give another zoo.
VERSION = 2


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    The optimiser is AdamW; the rate has a linear warm-up over a tenth of the steps, then goes
    linearly down to zero.
    """

    steps: int
    learning_rate: float
    batch_size: int
    weight_decay: float = 0.01

    def rate(self, step: int) -> float:
        """The share of the learning rate that applies at this step."""
        warmup = max(1, self.steps // 10)
        return min((step + 1) / warmup, (self.steps - step) / max(1, self.steps - warmup))


_PRETRAINING = Schedule(steps=1_700, learning_rate=3e-3, batch_size=64)
_FINE_TUNING = MappingProxyType(
    {
        "sst2": Schedule(steps=600, learning_rate=4e-4, batch_size=32),
        "mnli": Schedule(steps=350, learning_rate=4e-4, batch_size=32),
        "qqp": Schedule(steps=350, learning_rate=4e-4, batch_size=32),
        "cola": Schedule(steps=300, learning_rate=4e-4, batch_size=32),
    }
)


@dataclass(frozen=True)
class Settings:
    """What decides the bytes of a zoo, together with the machine and the libraries' versions."""

    seed: int = 0
    hidden_size: int = 64
    layers: int = 2
    heads: int = 4
    intermediate_size: int = 256
    passages: int = 60_000
    train_rows: int = 8_000
    validation_rows: int = 800
    pretraining: Schedule = _PRETRAINING
    fine_tuning: Mapping[str, Schedule] = field(default_factory=lambda: _FINE_TUNING)
    #: The order of a sum depends on it, so it is part of the result. Matrices this small gain a
    #: sixth from a second thread, and lose far more when another program wants a core: the two
    #: threads then wait for each other.
    threads: int = 1

    def digest(self) -> str:
        """Name these settings: the sha256 of their JSON."""
        # Not asdict of the whole: it copies a mapping by its own class, which a read-only one does
        # not allow.
        fields = {
            name: value
            for name, value in vars(self).items()
            if name not in ("pretraining", "fine_tuning")
        }
        fields["pretraining"] = asdict(self.pretraining)
        fields["fine_tuning"] = {
            task: asdict(schedule) for task, schedule in self.fine_tuning.items()
        }
        return hashlib.sha256(
            json.dumps({"version": VERSION, **fields}, sort_keys=True).encode()
        ).hexdigest()
