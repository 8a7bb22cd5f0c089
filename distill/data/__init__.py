"""Data: image sets, numbered views (augmentations) of their images, batch loaders and a Lightning data module."""

from distill.data.augment import ColourJitter, Padding, Views, to_unit
from distill.data.datamodule import DistillDataModule
from distill.data.datasets import (
    DATASETS,
    DatasetInfo,
    dataset_info,
    load_split,
)
from distill.data.fashion_scenes import (
    SPLITS,
    TINTS,
    Background,
    FashionScenes,
    Split,
)
from distill.data.image_files import DecodedImages, fingerprint, same_images
from distill.data.imageset import ImageSet, channel_statistics
from distill.data.loader import BatchLoader, EpochSampler
from distill.data.mixing import MixDraw, Mixing
from distill.data.partition import partition
from distill.data.torch_dataset import as_image_set
from distill.data.transformed_views import AnyViews, TransformedViews

__all__ = [
    "DATASETS",
    "SPLITS",
    "TINTS",
    "AnyViews",
    "Background",
    "BatchLoader",
    "ColourJitter",
    "DatasetInfo",
    "DecodedImages",
    "DistillDataModule",
    "EpochSampler",
    "FashionScenes",
    "ImageSet",
    "MixDraw",
    "Mixing",
    "Padding",
    "Split",
    "TransformedViews",
    "Views",
    "as_image_set",
    "channel_statistics",
    "dataset_info",
    "fingerprint",
    "load_split",
    "partition",
    "same_images",
    "to_unit",
]
