"""Trainings of a GAN that take milliseconds; as a script, one that takes long enough to be killed."""

import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from PIL import Image

from toolkit import metrics
from toolkit.adversarial import loop
from toolkit.adversarial.run import GanSettings, start_gan
from toolkit.data.examples import Framing, TrainingExamples
from toolkit.data.source import Source
from toolkit.models.gan import Discriminator, Generator

COLOURS = ((230, 40, 40), (40, 60, 220))
SHORT = GanSettings(
    max_train_steps=7,
    train_batch_size=4,
    seed=3,
    lr_scheduler="cosine",
    lr_warmup_steps=2,
    r1_every=3,
    ema_half_life=40.0,
    checkpointing_steps=2,
    logging_steps=1,
)


class Colours(Source):
    """Pictures of 8 x 8 pixels, each of one colour out of two, a little lighter or darker."""

    def __init__(self, labelled=False, rows=12):
        self.labelled = labelled
        self.rows = rows

    def __len__(self):
        return self.rows

    def row_id(self, index):
        return f"colour-{index}"

    def captions(self, index):
        return ()

    def label(self, index):
        return index % 2 if self.labelled else None

    @property
    def label_names(self):
        return ("red", "blue") if self.labelled else ()

    def image(self, index):
        shift = index // 2 % 5 * 4 - 8
        return Image.new("RGB", (8, 8), tuple(value + shift for value in COLOURS[index % 2]))

    def fingerprint(self):
        return f"colours {self.labelled} {self.rows}"


def networks(classes=None):
    generator = Generator(sample_size=8, latent_dim=8, channels=16, norm_num_groups=4, num_class_embeds=classes)
    return generator, Discriminator(sample_size=8, channels=16, num_class_embeds=classes)


def examples(labelled=False, seed=3, rows=12):
    return TrainingExamples(Colours(labelled, rows), seed=seed, framing=Framing(8, center_crop=True))


def started(folder, how=SHORT, *, labelled=False, data=None, precision="no"):
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    data = data or examples(labelled)
    return start_gan(*networks(2 if labelled else None), data, how, folder, accelerator)


def trained(folder, how=SHORT, hooks=(), **more):
    run = started(folder, how, **more)
    loop.train_gan(run, hooks)
    return run


def state(run):
    """Every tensor that a run has, by name."""
    tensors = {f"average.{name}": tensor for name, tensor in run.ema.average.items()}
    for name, player in run.players.items():
        tensors |= {f"{name}.{key}": tensor for key, tensor in player.model.state_dict().items()}
        for number, moments in player.optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{number}.{key}": tensor for key, tensor in moments.items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def require_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert len(ours) > 30
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []


def rows(folder):
    """The record without what depends on the clock and the machine."""
    timed = ("images_per_second", "peak_memory_gib")
    return [{key: value for key, value in row.items() if key not in timed} for row in metrics.read(folder)]


def slowly(run, now):
    time.sleep(0.2)


if __name__ == "__main__":
    torch.set_num_threads(1)
    trained(Path(sys.argv[1]), hooks=[slowly])
