"""Data: sets in memory, counted views of their images, batches of them, and the splits as Lightning takes them."""

from distill.data.augment import Padding, Views, to_unit
from distill.data.datamodule import DistillDataModule
from distill.data.decoded import DecodedImages
from distill.data.decoded import same as same_images
from distill.data.fashion_scenes import FashionScenes
from distill.data.fingerprint import fingerprint
from distill.data.imageset import ImageSet
from distill.data.jitter import ColourJitter
from distill.data.loader import BatchLoader, EpochSampler
from distill.data.partition import partition
from distill.data.registry import DATASETS, DatasetInfo, dataset_info, load_split
from distill.data.scenes import SPLITS, TINTS, Background, Split
from distill.data.statistics import channel_statistics

__all__ = [
    "DATASETS",
    "SPLITS",
    "TINTS",
    "Background",
    "BatchLoader",
    "ColourJitter",
    "DatasetInfo",
    "DecodedImages",
    "DistillDataModule",
    "EpochSampler",
    "FashionScenes",
    "ImageSet",
    "Padding",
    "Split",
    "Views",
    "channel_statistics",
    "dataset_info",
    "fingerprint",
    "load_split",
    "partition",
    "same_images",
    "to_unit",
]
