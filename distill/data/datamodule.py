"""Lightning data module of the training, validation and test split."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytorch_lightning as pl
import torch

from distill.data.augment import ColourJitter
from distill.data.image_files import DecodedImages
from distill.data.imageset import ImageSet
from distill.data.loader import BatchLoader
from distill.data.mixing import Mixing, mix_images, mixed
from distill.data.transformed_views import AnyViews, TransformedViews
from distill.errors import InputError
from distill.types import Batch

Source = ImageSet | Callable[[], ImageSet] | None
_SPLITS = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",), "predict": ("test",)}


class DistillDataModule(pl.LightningDataModule):
    """Provides training batches in random views, and evaluation batches in the identity view.

    Convention:
        - Batches are sent to the device as uint8. The view is applied there, and ``images`` become float in [0, 1] in
          ``channels_last`` layout. ``boxes`` and ``masks`` remain those of the original image. Views that are made by
          transforms are applied before, on the CPU, also to boxes and masks.
        - ``batch_size`` is per process. The processes share each split without overlap.
        - In training, a last, smaller batch is dropped. With ``trainer.overfit_batches``, every epoch has the same
          batches, in the order of the set.

    Args:
        train: An image set, or a function that is called to make one when it is first needed.
        validation: The same for validation; None for no validation.
        test: The same for testing.
        batch_size: Training images per batch and process.
        eval_batch_size: Evaluation images per batch and process; defaults to ``batch_size``.
        views: The views of the training images.
        seed: Determines the order of each epoch.
        data_seed: Determines the views of each epoch.
        workers: Number of worker processes per loader for images that are not in memory or are transformed on the CPU;
            None for the number of CPUs, at most 4.
        jitter: Colour jitter of the training images.
        mixing: How the training images of a batch are mixed in pairs.
        balanced: Whether an epoch has images of all classes equally often.

    Example:
        >>> from distill.data import FashionScenes, Views
        >>> data = DistillDataModule(test=lambda: FashionScenes("test", count=8), batch_size=4, views=Views())
        >>> batch = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
        >>> batch.images.dtype, batch.view.tolist()
        (torch.float32, [40, 40, 40, 40])
    """

    def __init__(
        self,
        train: Source = None,
        validation: Source = None,
        test: Source = None,
        *,
        batch_size: int,
        eval_batch_size: int | None = None,
        views: AnyViews,
        seed: int = 0,
        data_seed: int = 0,
        workers: int | None = None,
        jitter: ColourJitter | None = None,
        mixing: Mixing | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__()
        # If there are more processes than evaluation images, some processes get none.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self._sources: dict[str, Source] = {"train": train, "validation": validation, "test": test}
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.views, self.seed, self.data_seed = views, seed, data_seed
        self.workers, self.jitter, self.mixing, self.balanced = workers, jitter, mixing, balanced
        self._loaders: list[BatchLoader] = []

    def split(self, name: str) -> ImageSet:
        """Return a split by name; the first call makes it.

        Raises:
            InputError: if there is no such split.
        """
        source = self._sources[name]
        if source is None:
            raise InputError(f"no {name} set was given; pass `{name}=` an image set, or a function that makes one.")
        if not isinstance(source, ImageSet):
            source = self._sources[name] = source()
        return source

    def setup(self, stage: str) -> None:
        """Make the splits of a stage."""
        for name in _SPLITS[stage]:
            if self._sources[name] is not None:
                self.split(name)

    def teardown(self, stage: str) -> None:
        """Stop the worker processes of all loaders."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def train_dataloader(self) -> BatchLoader:
        """Return a loader of shuffled batches, with the views drawn for each epoch."""
        return self._loader("train", self.batch_size, training=True)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """Return a loader of the validation set in order, or an empty list if there is no validation set."""
        if self._sources["validation"] is None:
            return []
        return self._loader("validation", self.eval_batch_size)

    def test_dataloader(self) -> BatchLoader:
        """Return a loader of the test set in order."""
        return self._loader("test", self.eval_batch_size)

    def predict_dataloader(self) -> BatchLoader:
        """Return a loader of the test set in order."""
        return self.test_dataloader()

    def _loader(self, name: str, batch_size: int, *, training: bool = False) -> BatchLoader:
        trainer = self.trainer
        overfit = trainer is not None and getattr(trainer, "overfit_batches", 0) > 0
        loader = BatchLoader(
            self.split(name),
            batch_size=batch_size,
            views=self.views if training else self.views.identity,
            mixing=self.mixing if training else None,
            shuffle=training and not overfit,
            balanced=self.balanced,
            drop_last=training,
            seed=self.seed,
            data_seed=self.data_seed,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            workers=self.workers_for(name),
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
        )
        self._loaders.append(loader)
        return loader

    def workers_for(self, name: str) -> int:
        """Return the number of worker processes for a split: 0 if its images are in memory and not transformed."""
        images: object = self.split(name).images
        transformed = name == "train" and isinstance(self.views, TransformedViews)
        if not isinstance(images, DecodedImages) and not transformed:
            return 0
        return min(os.cpu_count() or 1, 4) if self.workers is None else self.workers

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Apply the views of the batch, and in training the colour jitter and the mixing, on the device."""
        images = self.views.apply(batch.images, batch.view)
        if self.jitter is not None and self.trainer is not None and self.trainer.training:
            images = self.jitter(images)
        batch = batch._replace(images=images)
        return batch if batch.mix is None else batch._replace(images=mix_images(batch))

    def trial_batch(self) -> Batch:
        """Return the first two training images as in training, without colour jitter; mixed, if batches can be mixed.

        Raises:
            InputError: if a transform cannot be applied to them.
        """
        train = self.split("train")
        index = torch.arange(min(2, len(train)))
        batch = train.take(index, self.views.draw(len(index), seed=self.data_seed, epoch=0))
        if isinstance(self.views, TransformedViews):
            self.views.check(train, seed=self.data_seed)
            batch = self.views.transform(batch, seed=self.data_seed)
        batch = batch._replace(images=self.views.apply(batch.images, batch.view))
        if self.mixing is None:
            return batch
        batch = mixed(batch, own=0.75)
        return batch._replace(images=mix_images(batch))
