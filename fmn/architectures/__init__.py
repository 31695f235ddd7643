"""Where mask nodes sit and what they govern, per family, as frozen data.

To add a family: describe it with an :class:`Architecture` and call :func:`register`, or name it in
an entry point of the group ``fmn.architectures``.
"""

from fmn.architectures import bert, decoders, distilbert, encoder_decoders, encoders, vit
from fmn.architectures.description import Architecture, Attention, FeedForward, Stack
from fmn.architectures.layer import LAYER, Block, Layer
from fmn.architectures.nodes import NODES, NodeKind, is_beyond_paper, node_kind, nodes_of
from fmn.architectures.slices import Sizes, Slices, Unit, fused, linear
from fmn.errors import ArchitectureError, ParamsError
from fmn.registry import Registry, one_or_several

_REGISTRY: Registry[Architecture] = Registry(
    "model family",
    "fmn.architectures",
    one_or_several(Architecture, lambda family: family.model_type),
    "add one with fmn.architectures.register(Architecture(...)) or an entry point in the group "
    "'fmn.architectures'",
)


def register(family: Architecture) -> None:
    """Add a family under its ``model_type``.

    Raises:
        ParamsError: it is there already.
    """
    _REGISTRY.register(family.model_type, family)


for _module in (bert, distilbert, encoders, decoders, encoder_decoders, vit):
    for _family in _module.ARCHITECTURES:
        register(_family)


def get(model_type: str) -> Architecture:
    """Return the description of a family by its ``config.model_type``.

    Raises:
        ArchitectureError: an unknown family; the message names it, the known ones, and how to add
            one.
    """
    try:
        return _REGISTRY.get(model_type)
    except ParamsError as error:
        raise ArchitectureError(str(error)) from None


def known() -> tuple[str, ...]:
    """Return the families that there are, in alphabetical order."""
    return _REGISTRY.names()


__all__ = [
    "LAYER",
    "NODES",
    "Architecture",
    "Attention",
    "Block",
    "FeedForward",
    "Layer",
    "NodeKind",
    "Sizes",
    "Slices",
    "Stack",
    "Unit",
    "fused",
    "get",
    "is_beyond_paper",
    "known",
    "linear",
    "node_kind",
    "nodes_of",
    "register",
]
