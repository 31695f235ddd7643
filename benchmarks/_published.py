"""The code that authors of merge methods published, run as it is on models of this machine.

A function or class is read by its name from a file of a checked-out copy, and gets the modules that
it uses. So nothing else of a repository runs, and none of the packages that the rest of it imports
is needed (data sets, image models, Weights & Biases). What it would load from a disk is given.
"""

from __future__ import annotations

import ast
import copy
import io
import logging
import re
from abc import ABC
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fmn.merging import Part
from fmn.merging.task_vectors import uniform

Arrays = Mapping[str, np.ndarray]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Zoo:
    """Fine-tunes of one parent, all in one dtype.

    Attributes:
        parent: by a parameter's name relative to the backbone.
        models: by name, in the order in which they are merged.
        digests: of the models' weights.
        grams: of each model, the Gram matrix of what goes into a linear map, by the map's name.
    """

    parent: Arrays
    models: Mapping[str, Arrays]
    digests: tuple[str, ...]
    grams: tuple[Arrays, ...] = ()

    def only(self, names: Sequence[str]) -> Zoo:
        """Return the same models with these parameters alone."""
        models = {task: {name: each[name] for name in names} for task, each in self.models.items()}
        return replace(self, parent={name: self.parent[name] for name in names}, models=models)

    def vectors(self, name: str) -> list[Tensor]:
        """Return the task vectors of a parameter."""
        return [torch.from_numpy(tuned[name] - self.parent[name]) for tuned in self.models.values()]

    def moved(self, steps: Mapping[str, Tensor], scale: float = 1.0) -> Arrays:
        """Return the parent a step further."""
        return {name: self.parent[name] + scale * step.numpy() for name, step in steps.items()}


def definitions(file: Path, *names: str, **world: Any) -> Any:
    """Return functions, methods and classes of a file, by name.

    Args:
        file: of Python; nothing of it runs but what is named.
        *names: those that are called, and those that they call; a base class before its subclass.
        **world: what they find besides, by name.
    """
    if not file.is_file():
        raise SystemExit(f"there is no {file}; take the commit that this benchmark names")
    nodes = {
        node.name: node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    if missing := [name for name in names if name not in nodes]:
        raise SystemExit(
            f"{file} has no {', '.join(missing)}; take the commit that this benchmark names"
        )
    body: list[ast.stmt] = [nodes[name] for name in names]
    # annotations stay texts, as in this file: what they name need not be given
    exec(compile(ast.Module(body, []), str(file), "exec"), world)
    return SimpleNamespace(**{name: world[name] for name in names})


def quietly(work: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Call what prints its progress."""
    with redirect_stdout(io.StringIO()), torch.no_grad():
        return work(*arguments, **more)


def della(code: Path, zoo: Zoo, parameters: Settings, *, same_steps: bool) -> Arrays:
    """Merge by MagPrune, TIES's election and the mean, with the random numbers of fmn.

    From a row's smallest value to its largest one, probabilities go from density - window / 2 to
    density + window / 2 in n - 1 equal steps. With ``same_steps`` density and window are those that
    make the steps epsilon / n, and the largest value's probability density + epsilon / 2.
    """
    draws: deque[np.ndarray] = deque()
    drawing = SimpleNamespace(**vars(torch))
    drawing.bernoulli = lambda kept: torch.from_numpy(draws.popleft()).reshape(kept.shape) < kept
    folder = code / "mergekit" / "mergekit"
    pruning = definitions(
        folder / "sparsify.py",
        "SparsificationMethod",
        "rank_magnitude",
        "sparsify",
        torch=drawing,
        Enum=Enum,
    )
    merging = definitions(
        folder / "merge_methods" / "generalized_task_arithmetic.py",
        "ConsensusMethod",
        "get_mask",
        "get_task_vectors",
        "GTATask",
        torch=torch,
        Enum=Enum,
        Task={Tensor: object},
        sparsify=pruning.sparsify,
    )
    task = merging.GTATask()
    task.base_model, task.out_tensor_name, task.int8_mask, task.normalize = (
        "parent",
        "",
        False,
        True,
    )
    task.method = SimpleNamespace(
        sparsification_method=pruning.SparsificationMethod.rank_magnitude_sampling,
        consensus_method=merging.ConsensusMethod.sum,
        lambda_type="Constant",
    )
    density, epsilon, scale = (parameters[name] for name in ("density", "epsilon", "scale"))
    merged = {}
    for name, origin in zoo.parent.items():
        count = origin.shape[-1] if same_steps else np.inf
        settings = {
            "weight": 1.0,
            "lambda": scale,
            "rescale": 1,
            "density": density + epsilon / (2 * count),
            "window_size": epsilon * (1 - 1 / count),
        }
        task.tensor_parameters = SimpleNamespace(data=dict.fromkeys(zoo.models, settings))
        part = Part(name, (), (), parameters=parameters)
        draws.extend(uniform(part, digest, origin.shape) for digest in zoo.digests)
        tensors = {"parent": origin} | {each: tuned[name] for each, tuned in zoo.models.items()}
        given = {each: torch.from_numpy(np.array(tensor)) for each, tensor in tensors.items()}
        merged[name] = quietly(task.execute, given).numpy()
    return merged


def breadcrumbs(code: Path, zoo: Zoo, parameters: Settings, *, whole: bool) -> Arrays:
    """Sum the middle of each task vector: of each row, or of each tensor as a whole.

    The code takes the last axis for what values are ranked in, so a whole tensor is given as one
    row.
    """
    masking = definitions(
        code / "src" / "task_vectors.py",
        "TaskVectorABC",
        "TaskVectorMiddleKeep",
        torch=torch,
        ABC=ABC,
    )
    vectors = [
        masking.TaskVectorMiddleKeep(
            vector={
                name: zoo.vectors(name)[number].reshape(-1 if whole else origin.shape)
                for name, origin in zoo.parent.items()
            },
            top_k_keep=parameters["density"],
            top_k_remove=parameters["outliers"],
        )
        for number in range(len(zoo.models))
    ]
    total = sum(vectors).vector  # type: ignore[attr-defined]
    steps = {name: total[name].reshape(origin.shape) for name, origin in zoo.parent.items()}
    return zoo.moved(steps, parameters["scale"])


def consensus(code: Path, zoo: Zoo, parameters: Settings) -> Arrays:
    """Merge by task arithmetic where TALL masks agree; masks are passed on without files."""
    utils = code / "src" / "utils"
    world = {"torch": torch, "copy": copy, "OrderedDict": OrderedDict}
    world |= vars(definitions(utils / "utils.py", "state_dict_to_vector", **world))
    masking = definitions(
        utils / "tallmask_utils.py",
        "generate_task_masks",
        "construct_consensus_mask",
        **world,
        log_wandb_mask_sparsity=lambda masks: None,
        load_tall_mask=lambda removed, parent, masks: masks,
    )
    steps = {}
    for name, array in zoo.parent.items():
        origin, vectors = torch.from_numpy(array).reshape(-1), torch.stack(zoo.vectors(name))
        vectors = vectors.reshape(len(vectors), -1)
        tuned = torch.stack([torch.from_numpy(each[name]) for each in zoo.models.values()])
        masks = quietly(
            masking.generate_task_masks,
            *(vectors, tuned.reshape(vectors.shape), origin),
            tall_mask_lambda=parameters["threshold"],
        )
        by_task = {task: {name: mask} for task, mask in zip(zoo.models, masks, strict=True)}
        common = quietly(masking.construct_consensus_mask, None, parameters["agreement"], by_task)
        steps[name] = (vectors.sum(0) * common).reshape(array.shape)
    return zoo.moved(steps, parameters["scale"])


def tsv_m(code: Path, zoo: Zoo, parameters: Settings) -> Arrays:
    """Merge by task singular vectors."""
    return _of_vectors(
        code / "src" / "utils" / "TSVM_utils.py",
        "compute_and_sum_svd_mem_reduction",
        zoo,
        parameters,
    )


def iso_c(code: Path, zoo: Zoo, parameters: Settings) -> Arrays:
    """Merge isotropically."""
    return _of_vectors(code / "src" / "utils" / "iso.py", "iso_c", zoo, parameters)


def _of_vectors(file: Path, name: str, zoo: Zoo, parameters: Settings) -> Arrays:
    work = getattr(definitions(file, name, torch=torch), name)
    vectors = [
        SimpleNamespace(vector={name: zoo.vectors(name)[number] for name in zoo.parent})
        for number in range(len(zoo.models))
    ]
    settings = SimpleNamespace(DATASETS=list(zoo.models), device="cpu")
    return zoo.moved(quietly(work, vectors, settings), parameters["scale"])


def regmean(code: Path, zoo: Zoo, parameters: Settings) -> Arrays:
    """Merge by RegMean, of the zoo's Gram matrices."""
    merging = definitions(
        code / "src" / "model_merge" / "avg_merger.py",
        "ModelMergerBase",
        "FedAvgMerger",
        torch=torch,
        logging=logging,
        re=re,
    )
    settings = SimpleNamespace(
        regmean_exclude_param_regex=[],
        regmean_diag=False,
        regmean_reduce_nondiag=parameters["alpha"],
    )
    merger = merging.FedAvgMerger(None, settings, [], None)
    tensors = {
        name: [torch.from_numpy(tuned[name]) for tuned in zoo.models.values()]
        for name in zoo.parent
    }
    dtype = next(iter(tensors.values()))[0].dtype
    grams = [
        {name: torch.from_numpy(matrix).to(dtype) for name, matrix in matrices.items()}
        for matrices in zoo.grams
    ]
    merged = quietly(merger.regmean_mean_params, tensors, grams)
    return {name: tensor.numpy() for name, tensor in merged.items()}


def gram_matrices(code: Path, model: Any, batches: Sequence[Any]) -> Arrays:
    """Return the mean of x xᵀ over positions, padding included, by the linear map's name."""
    folder = code / "src" / "model_merge"
    world = {"torch": torch, "nn": nn, "Conv1D": Conv1D, "re": re, "tqdm": _untold}
    choosing = definitions(folder / "misc.py", "filter_modules_by_regex", **world)
    computing = definitions(folder / "local_trainer.py", "compute_grams", **world, **vars(choosing))
    trainer = SimpleNamespace(
        model=model,
        get_train_dataloader=lambda: batches,
        _prepare_inputs=lambda inputs: inputs,
        forward_model_pass=lambda model, inputs: model(**inputs),
    )
    settings = SimpleNamespace(merger=SimpleNamespace(gram_n_example=len(batches)))
    grams = quietly(computing.compute_grams, trainer, settings, None)
    return {name: gram.numpy() for name, gram in grams.items() if name != "meta_info"}


def wudi(code: Path, vectors: Sequence[Tensor], steps: int) -> Tensor:
    """Return the task vector of a linear map that gradient descent on WUDI's objective comes to."""
    descending = definitions(
        code / "vit" / "wudi_main.py", "get_redundant_task_vector", torch=torch, tqdm=_untold
    )
    # it asks for a GPU
    with patch.object(Tensor, "cuda", lambda tensor: tensor):
        return descending.get_redundant_task_vector("", torch.stack(list(vectors)), steps)


def _untold(steps: Any, **more: Any) -> Any:
    return steps
