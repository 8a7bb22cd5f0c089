"""The three splits as Lightning takes them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytorch_lightning as pl

from distill.data.augment import ColourJitter, Views
from distill.data.image_files import DecodedImages
from distill.data.imageset import ImageSet
from distill.data.loader import BatchLoader
from distill.errors import InputError
from distill.types import Batch

Source = ImageSet | Callable[[], ImageSet] | None
_SPLITS = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",), "predict": ("test",)}


class DistillDataModule(pl.LightningDataModule):
    """Hands out training batches in drawn views, and evaluation batches in the identity view.

    Convention:
        - Batches travel to the device as uint8; there the view is taken, and ``images`` become float in [0, 1] and
          ``channels_last``. ``boxes`` and ``masks`` stay those of the untouched image.
        - ``batch_size`` counts for each process. Processes share a split out without overlap.
        - Training leaves out the last batch if it is smaller than the others.

    Args:
        train: A set, or a function that makes one when it is first needed.
        validation: Likewise; without it, there is no validation.
        test: Likewise.
        batch_size: Training images a batch and process.
        eval_batch_size: Evaluation images a batch and process; ``batch_size`` if not given.
        views: What training sees of an image.
        seed: Fixes the order of each epoch.
        data_seed: Fixes the views of each epoch.
        workers: Processes that decode images which do not lie in memory; a few if None.
        jitter: Changes the colours of training images.

    Example:
        >>> from distill.data import FashionScenes
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
        views: Views,
        seed: int = 0,
        data_seed: int = 0,
        workers: int | None = None,
        jitter: ColourJitter | None = None,
    ) -> None:
        super().__init__()
        # With more processes than evaluation images, some have none.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self._sources: dict[str, Source] = {"train": train, "validation": validation, "test": test}
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.views, self.seed, self.data_seed = views, seed, data_seed
        self.workers, self.jitter = workers, jitter
        self._loaders: list[BatchLoader] = []

    def split(self, name: str) -> ImageSet:
        """Give one of the three sets, making it at the first call.

        Raises:
            InputError: if there is none.
        """
        source = self._sources[name]
        if source is None:
            raise InputError(f"there is no {name} set; give `{name}=` a set, or a function that makes one.")
        if not isinstance(source, ImageSet):
            source = self._sources[name] = source()
        return source

    def setup(self, stage: str) -> None:
        """Make the sets that a stage needs before its clock starts."""
        for name in _SPLITS[stage]:
            if self._sources[name] is not None:
                self.split(name)

    def teardown(self, stage: str) -> None:
        """End the workers of all loaders that were handed out."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def train_dataloader(self) -> BatchLoader:
        """Shuffled batches in the views drawn for the epoch."""
        return self._loader("train", self.batch_size, training=True)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """The validation set in order, or nothing where there is none."""
        if self._sources["validation"] is None:
            return []
        return self._loader("validation", self.eval_batch_size)

    def test_dataloader(self) -> BatchLoader:
        """The test set in order."""
        return self._loader("test", self.eval_batch_size)

    def predict_dataloader(self) -> BatchLoader:
        """The test set in order."""
        return self.test_dataloader()

    def _loader(self, name: str, batch_size: int, *, training: bool = False) -> BatchLoader:
        trainer = self.trainer
        loader = BatchLoader(
            self.split(name),
            batch_size=batch_size,
            views=self.views if training else self.views.identity,
            shuffle=training,
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
        """Say how many processes are to decode a set: none where it lies in memory."""
        held: object = self.split(name).images
        if not isinstance(held, DecodedImages):
            return 0
        return min(os.cpu_count() or 1, 4) if self.workers is None else self.workers

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Take the view that the batch names, on the device."""
        images = self.views.apply(batch.images, batch.view)
        if self.jitter is not None and self.trainer is not None and self.trainer.training:
            images = self.jitter(images)
        return batch._replace(images=images)
