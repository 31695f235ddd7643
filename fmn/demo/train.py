"""Train a tiny BERT: plain PyTorch loops, the same bytes for the same seed on the same machine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForPreTraining, BertForSequenceClassification

from fmn.demo.settings import Schedule
from fmn.demo.vocabulary import SPECIAL

#: A model of transformers, whose classes are untyped.
Bert = Any
#: Called once a step.
OnStep = Callable[[], None]


@dataclass(frozen=True)
class Batch:
    """Token ids and segment numbers of n texts, padded to one length t: both n × t; labels: n."""

    ids: Tensor
    segments: Tensor
    attended: Tensor
    labels: Tensor

    @classmethod
    def encode(
        cls, tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], labels: Sequence[int]
    ) -> Batch:
        """Encode texts, each of one or two sentences, padded to the longest of them."""
        encoded = tokenizer.encode_batch([text if len(text) == 2 else text[0] for text in texts])
        return cls(
            ids=torch.tensor([e.ids for e in encoded]),
            segments=torch.tensor([e.type_ids for e in encoded]),
            attended=torch.tensor([e.attention_mask for e in encoded]),
            labels=torch.tensor(labels),
        )

    def take(self, rows: Tensor) -> Batch:
        """Take some rows, and no more columns than the longest of them fills."""
        attended = self.attended[rows]
        width = int(attended.sum(dim=1).max())
        return Batch(
            self.ids[rows, :width],
            self.segments[rows, :width],
            attended[:, :width],
            self.labels[rows],
        )


def batches(data: Batch, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Draw batches without end, epoch after epoch, of texts of like length, to save padding."""
    lengths = data.attended.sum(dim=1)
    while True:
        order = torch.randperm(len(lengths), generator=generator)
        for window in order.split(16 * size):
            near = window[lengths[window].argsort(stable=True)].split(size)
            for number in torch.randperm(len(near), generator=generator).tolist():
                yield data.take(near[number])


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[torch.Generator]:
    """Let torch compute the same bytes each time; give a seeded generator, restore settings."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield torch.Generator().manual_seed(seed)
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def pretrain(
    config: BertConfig, data: Batch, schedule: Schedule, seed: int, threads: int, on_step: OnStep
) -> Bert:
    """Train a new BERT as the first one was: to fill in words, and to tell what follows on what.

    ``data.labels`` follow BERT: 0 where the second sentence follows on from the first, 1 where it
    does not.
    """
    with reproducible(seed, threads) as generator:
        model = BertForPreTraining(config)

        def loss(batch: Batch) -> Tensor:
            ids, chosen = mask_words(batch.ids, config.vocab_size, generator)
            hidden, pooled = model.bert(
                ids, attention_mask=batch.attended, token_type_ids=batch.segments, return_dict=False
            )
            # Only the chosen positions need the projection on the vocabulary, the dearest of all.
            words = cross_entropy(model.cls.predictions(hidden[chosen]), batch.ids[chosen])
            return words + cross_entropy(model.cls.seq_relationship(pooled), batch.labels)

        _fit(model, map(loss, batches(data, schedule.batch_size, generator)), schedule, on_step)
    return model


def fine_tune(
    parent: Bert,
    labels: Sequence[str],
    data: Batch,
    schedule: Schedule,
    seed: int,
    threads: int,
    on_step: OnStep,
) -> Bert:
    """Train a copy of the parent's backbone, under a new head with one output per label name."""
    config = copy.deepcopy(parent.config)
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: number for number, name in enumerate(labels)}
    with reproducible(seed, threads) as generator:
        model = BertForSequenceClassification(config)
        model.bert.load_state_dict(parent.bert.state_dict())

        def loss(batch: Batch) -> Tensor:
            output = model(batch.ids, attention_mask=batch.attended, token_type_ids=batch.segments)
            return cross_entropy(output.logits, batch.labels)

        _fit(model, map(loss, batches(data, schedule.batch_size, generator)), schedule, on_step)
    return model


def mask_words(ids: Tensor, vocabulary: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose a quarter of the words, and hide or change most of these, as BERT does.

    Of the chosen words 80 % are hidden, 10 % get another word put for them, and 10 % are left.

    Returns:
        The ids with the words hidden, and which positions were chosen; both n × t.
    """
    first_word = len(SPECIAL)
    chosen = (ids >= first_word) & (torch.rand(ids.shape, generator=generator) < 0.25)
    fate = torch.rand(ids.shape, generator=generator)
    others = torch.randint(first_word, vocabulary, ids.shape, generator=generator)
    hidden = torch.where(chosen & (fate < 0.8), SPECIAL.index("[MASK]"), ids)
    return torch.where(chosen & (fate >= 0.9), others, hidden), chosen


def _fit(model: nn.Module, losses: Iterator[Tensor], schedule: Schedule, on_step: OnStep) -> None:
    """Minimise a stream of losses."""
    optimizer = torch.optim.AdamW(
        model.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.rate)
    model.train()
    for loss in islice(losses, schedule.steps):
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        on_step()
    model.eval()
