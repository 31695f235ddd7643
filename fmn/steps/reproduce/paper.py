"""What the paper reports, as far as its text could be read.

Nothing here is from memory, and nothing is guessed.

Thennal D K, Ganesh Nathan, Suchithra M S: *Fisher Mask Nodes for Language Model Merging*.
LREC-COLING 2024, pages 7349–7355, https://aclanthology.org/2024.lrec-main.647,
https://arxiv.org/abs/2403.09891.
"""

from __future__ import annotations

from dataclasses import dataclass

MODELS = "models of the BERT family, fine-tuned on GLUE"


@dataclass(frozen=True)
class Claim:
    """A figure of the paper.

    Attributes:
        what: it is of.
        models: it is about.
        value: as the paper writes it.
        source: where in the paper.
    """

    what: str
    models: str
    value: str
    source: str


GAIN = Claim("largest gain over the baseline", MODELS, "+6.5", "abstract")
SPEED_UP = Claim(
    "speed-up over full Fisher-weighted averaging", MODELS, "57.4x to 321.7x", "abstract"
)
