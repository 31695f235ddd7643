"""A zoo for newcomers: a tiny BERT and four fine-tunes of it.

It is made from nothing but a grammar, without a network.
"""

from fmn.demo.zoo import build_zoo

__all__ = ["build_zoo"]
