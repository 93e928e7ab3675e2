"""Optimizers by their family, which knows names and arguments. A new one is a file here and a line in FAMILIES."""

from pipeline.training.optimization.optimizers.adafactor import Adafactor
from pipeline.training.optimization.optimizers.adam import Adam
from pipeline.training.optimization.optimizers.base_optimizer import OptimizerFamily
from pipeline.training.optimization.optimizers.bitsandbytes_optimizers import EightBit
from pipeline.training.optimization.optimizers.custom_optimizer import OwnClass
from pipeline.training.optimization.optimizers.muon import Muon
from pipeline.training.optimization.optimizers.sgd import Sgd
from pipeline.training.optimization.optimizers.torch_class import TorchClass

FAMILIES: tuple[OptimizerFamily, ...] = (Adam(), Sgd(), Adafactor(), Muon(), TorchClass(), EightBit(), OwnClass())


def family_of(name: str) -> OptimizerFamily:
    """The family that knows a name of `train.optim`."""
    return next(family for family in FAMILIES if family.knows(name))


__all__ = ["FAMILIES", "OptimizerFamily", "family_of"]
