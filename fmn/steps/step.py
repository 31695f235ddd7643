"""What every step is: a key, of digests and parameters, and a way to its result by a store."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

from fmn import evaluation
from fmn.checkpoint import Checkpoint
from fmn.errors import CheckpointError, FmnError
from fmn.evaluation import DataSource, Task
from fmn.keys import canonical_json, digest
from fmn.steps.context import Context
from fmn.store import Draft, Memo, Outcome, Store, record_key

NOISE = ("_name_or_path", "_commit_hash", "transformers_version")
"""Names in a configuration on which no result depends."""


WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How the names of classes end that write text."""


class NeedsError(FmnError):
    """A step whose input is not in the store, because the step that makes it failed."""


class Step(ABC):
    """A use case whose result is a pure function of its inputs.

    Attributes:
        kind: of its record in a store.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, Any]:
        """All that the result depends on: digests and parameters, and nothing else."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is called, for people."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """What the inputs are called, for people who read the record."""

    @abstractmethod
    def draft(self, store: Store, context: Context, folder: Path) -> Draft:
        """Compute the result; files go into the folder."""

    def prepare(self, context: Context) -> Any:
        """Load and encode what it reads, so that what does not fit is said before a model runs.

        Raises:
            FmnError: something does not fit.
        """
        return None

    @cached_property
    def key(self) -> str:
        """Sha256 of kind, format and inputs."""
        return record_key(self.kind, self.inputs)

    def run(self, store: Store, context: Context, *, wait: bool = True) -> Outcome:
        """Return the result from the store, or compute it and keep it there.

        Raises:
            ClaimedError: another process computes it, and ``wait`` is False.
            FmnError: it cannot be computed.
            StoreError: the store failed.
        """
        inputs = json.loads(canonical_json(self.inputs))
        return store.get_or_compute(
            self.kind,
            inputs,
            lambda folder: self.draft(store, context, folder),
            self.provenance(),
            wait=wait,
        )


def identity(checkpoint: Checkpoint, memo: Memo) -> dict[str, str]:
    """Return what a model is: digests of its weights, configuration and tokenizer.

    What it is called and where it lies do not matter.
    """
    files = checkpoint.tokenizer_files()
    return {
        "weights": memo.digest("weights", checkpoint.weight_files, checkpoint.digest),
        "config": digest(
            "config",
            {name: _exact(value) for name, value in checkpoint.config.items() if name not in NOISE},
        ),
        "tokenizer": memo.digest(
            "tokenizer", files, lambda: digest("tokenizer", [_hashed(file) for file in files])
        ),
    }


def _exact(value: Any) -> Any:
    """Return a value of a configuration with NaN and infinities, which JSON lacks, as words."""
    if isinstance(value, dict):
        return {name: _exact(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_exact(inner) for inner in value]
    return f"float {value}" if isinstance(value, float) and not isfinite(value) else value


def split_digest(source: DataSource, task: Task, split: str, memo: Memo) -> tuple[str, int]:
    """Return the digest of a split's texts and labels, and its number of rows.

    Raises:
        DataError: the split is not there, or its content does not fit the task.
    """

    def compute() -> tuple[str, int]:
        examples = evaluation.load_split(source, task, split)
        return examples.digest(), len(examples)

    file = evaluation.split_file(source, task, split)
    if file is None or not file.is_file():
        digests = compute()
    else:
        columns = [*task.reads, *task.labels]
        digests = memo.digest(f"split {digest('columns', columns)}", [file], compute)
    return digests[0], digests[1]


def check_head(checkpoint: Checkpoint, task: Task) -> None:
    """Refuse a model that does not do what the task asks for.

    Raises:
        CheckpointError: a language task and a model that writes no text, or the other way round.
    """
    kind = next(iter(checkpoint.config.get("architectures") or []), "model")
    if not kind.endswith(WRITERS if task.is_language else "ForSequenceClassification"):
        wanted = (
            "that writes text (…ForCausalLM, …ForConditionalGeneration)"
            if task.is_language
            else "for sequence classification"
        )
        raise CheckpointError(
            f"{checkpoint.name} is a {kind}; task {task.name} needs a model {wanted}"
        )


def _hashed(file: Path) -> list[str]:
    from hashlib import sha256

    return [file.name, sha256(file.read_bytes()).hexdigest()]
