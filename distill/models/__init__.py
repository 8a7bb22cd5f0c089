"""Wide residual networks, torchvision models and custom modules, with one interface to read and cut their layers."""

from distill.models.any_model import AnyModel, as_staged
from distill.models.catalogue import FAMILIES, Family, create_model, import_network, stage_network
from distill.models.fold import fold_batch_norm
from distill.models.library_networks import image_size_option, library_names
from distill.models.library_weights import create_pretrained, find_library_weights, library_weights_names
from distill.models.randomise import cascade
from distill.models.staged import ModelSpec, StagedNetwork
from distill.models.staged_head import StagedHead
from distill.models.starting_weights import load_starting_weights
from distill.models.weights import (
    describe,
    file_hash,
    load_model,
    load_network,
    save_model,
)
from distill.models.wrn import WideResNet

__all__ = [
    "FAMILIES",
    "AnyModel",
    "Family",
    "ModelSpec",
    "StagedHead",
    "StagedNetwork",
    "WideResNet",
    "as_staged",
    "cascade",
    "create_model",
    "create_pretrained",
    "describe",
    "file_hash",
    "find_library_weights",
    "fold_batch_norm",
    "image_size_option",
    "import_network",
    "library_names",
    "library_weights_names",
    "load_model",
    "load_network",
    "load_starting_weights",
    "save_model",
    "stage_network",
]
