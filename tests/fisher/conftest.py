import pytest
import torch


@pytest.fixture
def float64():
    """Make float64 torch's default: transformers 4.50 builds causal masks in the default dtype,
    where -inf must fit."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
