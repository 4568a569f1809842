"""How the same few pictures have changed since the beginning of a run."""

from pathlib import Path

from PIL import Image, ImageDraw

from toolkit.batch import Step
from toolkit.files import write_with
from toolkit.hooks.samples import LABEL_HEIGHT
from toolkit.run import Run

PICTURES = 5


class OverTime:
    """The hook that follows the first pictures of the samples in `over_time.png`: a row for each time they were drawn.

    It comes after `Samples`, whose sheets it is made of.

    Args:
        side: Of a picture, in pixels.
        columns: Pictures in a row of a sheet.
        titled: Whether the sheet's rows have titles.
    """

    def __init__(self, side: int, columns: int, *, titled: bool) -> None:
        self.side = side
        self.columns = min(columns, PICTURES)
        self.top = LABEL_HEIGHT if titled else 0

    def __call__(self, run: Run, step: Step) -> None:
        if run.accelerator.is_main_process:
            self.draw(run.plan.output_dir, run.effective_batch_size)

    def draw(self, output_dir: Path, images_per_step: int) -> None:
        """Write the picture of the sheets that are in a run's folder, if there are any."""
        sheets = sorted((output_dir / "samples").glob("step-*.png"))
        if sheets:
            write_with(output_dir / "over_time.png", self._drawn(sheets, images_per_step).save)

    def _drawn(self, sheets: list[Path], images_per_step: int) -> Image.Image:
        width, height = self.columns * self.side, self.side
        captions = [f"{int(sheet.stem.removeprefix('step-')) * images_per_step:,} images" for sheet in sheets]
        pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
        left = int(max(pen.textlength(caption) for caption in captions)) + 8
        picture = Image.new("RGB", (left + width, len(sheets) * height), "white")
        pen = ImageDraw.Draw(picture)
        for row, (sheet, caption) in enumerate(zip(sheets, captions, strict=True)):
            pen.text((4, row * height + height // 2), caption, fill="black", anchor="lm")
            with Image.open(sheet) as drawn:
                picture.paste(drawn.crop((0, self.top, width, self.top + height)), (left, row * height))
        return picture
