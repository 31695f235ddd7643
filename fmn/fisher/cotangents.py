r"""Which directions of the logits to differentiate: every label mode comes down to that.

With f the logits of one example and ℓ its loss, a Fisher entry is an expectation of (∂ℓ/∂m)² = (vᵀ
∂f/∂m)², v = ∂ℓ/∂f. For cross-entropy v = p - e_y, so the true and the sampled labels need one v.
The expectation over labels is Σ_c p_c (p - e_c)(p - e_c)ᵀ = diag(p) - p pᵀ, of rank C - 1, so a
square root of it gives the exact sum in C - 1 directions, one for two classes. For squared error v
= 2 (f - y); squared error is the negative log-likelihood of a normal distribution of variance 1/2,
so the expectation is the one direction √2.

A loss over tokens is their mean, one example at a time; scores of different tokens have zero mean
and are independent given the input, so the expectation takes each labelled token's directions on
their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fmn.errors import FisherError
from fmn.fisher.result import Labels

IGNORED = -100  # transformers' label of a token that does not count

Head = Literal["classes", "regression", "tokens", "causal", "sequences"]
"""What is predicted; ``sequences``: by a decoder behind an encoder, each token from those before
it.
"""


@dataclass(frozen=True)
class Targets:
    """A batch's logits and labels, brought to one shape.

    Attributes:
        logits: [examples, positions, classes], float32 or wider; one position where the head is not
            over tokens.
        labels: [examples, positions], integer, ``IGNORED`` where a position does not count; float
            for regression.
        counted: [examples, positions], bool.
        draws: [examples], a seed for each example that depends on nothing but the example.
    """

    logits: Tensor
    labels: Tensor | None
    counted: Tensor
    draws: list[int]


def head_of(model: Any) -> Head:
    """Tell what the model's task head predicts.

    Raises:
        FisherError: no task head, or one whose loss has no Fisher here.
    """
    from transformers.models.auto import modeling_auto as auto

    name = type(model).__name__
    mappings: tuple[
        tuple[Head, Any, str], ...
    ] = (  # a class from outside is known by the end of its name
        (
            "sequences",
            auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
            "ForConditionalGeneration",
        ),
        ("causal", auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "ForCausalLM"),
        ("tokens", auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "ForMaskedLM"),
        ("tokens", auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES, "ForTokenClassification"),
        (
            "classes",
            auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
            "ForSequenceClassification",
        ),
        ("classes", auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, "ForImageClassification"),
    )
    head = next((head for head, names, _ in mappings if name in names.values()), None)
    head = head or next((head for head, _, end in mappings if name.endswith(end)), None)
    if head is None:
        raise FisherError(
            f"{name} has no loss that a Fisher could be taken of; expected a head for "
            "classification of sequences, tokens or "
            "images, regression, masked, causal or sequence-to-sequence language modelling"
        )
    # a decoder that also takes images may be called a model of sequences
    if head == "sequences" and not model.config.is_encoder_decoder:
        return "causal"
    if head != "classes":
        return head
    problem = getattr(model.config, "problem_type", None)
    if problem == "multi_label_classification":
        raise FisherError(
            f"{name} has a multi-label head; expected single_label_classification or regression"
        )
    if problem == "regression" and model.config.num_labels > 1:
        raise FisherError(
            f"{name} predicts {model.config.num_labels} numbers; expected one, or "
            "single_label_classification"
        )
    return "regression" if model.config.num_labels == 1 else "classes"


def targets(
    head: Head, logits: Tensor, batch: Mapping[str, Tensor], labels: Labels, seed: int
) -> Targets:
    """Bring a batch's logits and labels to one shape and check them.

    Raises:
        FisherError: labels are missing, of the wrong shape or out of range.
    """
    true = labels_of(batch, labels, head)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if head in ("classes", "regression"):
        wide, true = wide[:, None, :], None if true is None else true.reshape(-1, 1)
    if head == "causal":
        assert true is not None
        wide, true = wide[:, :-1], true[:, 1:]
    if true is not None and true.shape != wide.shape[:2]:
        raise FisherError(
            f"labels of shape {list(true.shape)} do not match logits of shape {list(wide.shape)}"
        )
    counted = torch.ones(wide.shape[:2], dtype=torch.bool, device=wide.device)
    if true is not None and head != "regression":
        counted = true != IGNORED
        outside = counted & ((true < 0) | (true >= wide.shape[-1]))
        if outside.any():
            classes = wide.shape[-1]
            raise FisherError(
                f"label {int(true[outside][0])} is out of range; the head has {classes} classes, "
                f"0 to {classes - 1}"
            )
    draws = [_draw(batch, row, seed) for row in range(len(wide))] if labels == "sampled" else []
    return Targets(wide, true, counted, draws)


def labels_of(batch: Mapping[str, Tensor], labels: Labels, head: Head) -> Tensor | None:
    """Return a batch's labels, None where it has none and none are needed.

    Raises:
        FisherError: they are needed.
    """
    true = batch.get("labels")
    if true is None and (labels == "true" or head in ("tokens", "causal", "sequences")):
        raise FisherError(
            f"the batches hold no 'labels'; labels='{labels}' needs them for a head over {head}"
        )
    return true


def cotangents(head: Head, labels: Labels, batch: Targets) -> Iterator[Tensor]:
    """Iterate over directions v whose squared scores sum to the batch's Fisher.

    Each v is shaped as the head's logits.
    """
    for direction in _directions(head, labels, batch):
        count = batch.counted.sum(1).clamp(min=1)[:, None, None]
        scaled = torch.where(batch.counted[..., None], direction, 0) / count
        if head in ("classes", "regression"):
            yield scaled[:, 0]
        elif head == "causal":  # the last position predicts nothing
            yield torch.nn.functional.pad(scaled, (0, 0, 0, 1))
        else:
            yield scaled


def _directions(head: Head, labels: Labels, batch: Targets) -> Iterator[Tensor]:
    if labels != "expected":
        yield _score(head, labels, batch)
        return
    if head == "regression":
        yield torch.full_like(batch.logits, 2**0.5)
        return
    roots = multinomial_root(torch.softmax(batch.logits, -1))
    for position in range(batch.logits.shape[1]):
        if not batch.counted[:, position].any():
            continue
        for column in range(roots.shape[-1]):
            direction = torch.zeros_like(batch.logits)
            direction[:, position] = roots[:, position, :, column]
            yield direction


def _score(head: Head, labels: Labels, batch: Targets) -> Tensor:
    """∂ℓ/∂f for one label of each position: the true one, or one drawn from the prediction.

    The prediction is the model's own.
    """
    if head == "regression":
        if labels == "sampled":  # y = f + ε, ε ~ N(0, 1/2)
            noise = [
                np.random.default_rng(draw).standard_normal() * 0.5**0.5 for draw in batch.draws
            ]
            return (
                torch.tensor(noise, dtype=batch.logits.dtype, device=batch.logits.device).reshape(
                    -1, 1, 1
                )
                * -2
            )
        assert batch.labels is not None
        return 2 * (batch.logits - batch.labels[..., None].to(batch.logits))
    p = torch.softmax(batch.logits, -1)
    chosen = _sampled(p, batch.counted, batch.draws) if labels == "sampled" else batch.labels
    assert chosen is not None
    index = chosen.clamp(min=0).long()[..., None]
    # p_y - 1 written as minus the other classes' probabilities: exact where the model is sure
    others = p.scatter(-1, index, 0.0)
    return others.scatter(-1, index, -others.sum(-1, keepdim=True))


def _sampled(p: Tensor, counted: Tensor, draws: list[int]) -> Tensor:
    uniform = torch.zeros(p.shape[:2], dtype=torch.float64)
    # in the order of the positions that count, wherever the padding is
    for row, draw in enumerate(draws):
        own = counted[row].cpu()
        uniform[row, own] = torch.from_numpy(np.random.default_rng(draw).random(int(own.sum())))
    cumulative = p.double().cumsum(-1)
    threshold = uniform.to(p.device)[..., None] * cumulative[..., -1:]
    return (cumulative <= threshold).sum(-1).clamp(max=p.shape[-1] - 1)


def multinomial_root(p: Tensor) -> Tensor:
    """Factor the covariance of a one-hot label: S with S Sᵀ = diag(p) - p pᵀ.

    The closed-form Cholesky factor (Tanabe and Sagae, 1992); its last column is zero and left out.

    Args:
        p: [..., C] probabilities.

    Returns:
        [..., C, C - 1].
    """
    rest = p.flip(-1).cumsum(-1).flip(-1)  # q_{k-1} = p_k + … + p_C
    after = torch.cat([rest[..., 1:], torch.zeros_like(rest[..., :1])], -1)  # q_k
    tiny = torch.finfo(p.dtype).tiny
    diagonal = torch.sqrt(p * after / rest.clamp(min=tiny))
    column = torch.sqrt(p / (after * rest).clamp(min=tiny))
    lower = torch.tril(-p[..., :, None] * column[..., None, :], diagonal=-1)
    return (lower + torch.diag_embed(diagonal))[..., :-1]


def _draw(batch: Mapping[str, Tensor], row: int, seed: int) -> int:
    """A seed that depends on the example alone.

    So neither order nor batch size nor padding changes what is drawn.
    """
    tokens, pixels = batch.get("input_ids"), batch.get("pixel_values")
    if tokens is not None:
        mask = batch.get("attention_mask")
        own = tokens[row] if mask is None else tokens[row][mask[row].bool()]
        content = own.cpu().numpy().astype("<i8").tobytes()
    elif pixels is not None:
        content = pixels[row].double().cpu().numpy().astype("<f8").tobytes()
    else:
        raise FisherError("labels='sampled' needs batches with 'input_ids' or 'pixel_values'")
    return int.from_bytes(
        hashlib.sha256(seed.to_bytes(8, "little", signed=True) + content).digest()[:8], "little"
    )
