"""How long rows of the built-in data sets take to draw, on one core.

python benchmarks/drawn_rows.py [--rows 10000] [--size 64]
"""

import argparse
import time

from tqdm import trange

from toolkit.data.scene_styles import STYLES
from toolkit.data.sources import BUILTIN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64, help="side in pixels")
    options = parser.parse_args()
    for name, (source_class, _) in BUILTIN.items():
        for style in STYLES:
            source = source_class(style=style, split="train", size=options.size, count=options.rows)
            started = time.process_time()
            for index in trange(options.rows, desc=f"{name}, {style}", leave=False, mininterval=1):
                source.captions(index)
                source.image(index)
            print(f"{name}, {style}: {time.process_time() - started:.1f} s for {options.rows:,} rows")


if __name__ == "__main__":
    main()
