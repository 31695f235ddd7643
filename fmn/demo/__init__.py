"""A zoo for newcomers: a tiny BERT and four fine-tunes, made from a grammar without a network."""

from fmn.demo.zoo import build_zoo

__all__ = ["build_zoo"]
