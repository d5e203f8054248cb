"""The photographs of the small world: crops of fifteen real pictures that two installed packages carry.

    photos("val", seed=0)[0] -> Photo(picture="astronaut.png", crop=(3, 15, 474, 486), mirrored=False, light=0.96)
    photos("val", seed=0)[0].open() -> a 224 x 224 RGB image

Nothing is downloaded. Only photographs whose free licence is stated by the package that ships them are used, so the
moon, the scanned page, the motorcycle (no licence stated) and the drawing of a horse are left out. The splits share the
pictures, since there is one of each kind, but no crop: a validation crop and a training crop differ in more than
MIN_DISTANCE of the 64 bits of their perceptual hashes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Literal

from PIL import Image, ImageEnhance, ImageOps

from ier1_plugin.editors.pillow.operations import Fractions
from ier1_plugin.task.images import open_image

Split = Literal["train", "val"]
FULL: Fractions = (0.0, 0.0, 1.0, 1.0)
SCIKIT_IMAGE, SCIKIT_LEARN = "skimage/data", "sklearn/datasets/images"
PHOTO_SIDE = 224
SOURCE_SIDE = 640
# phash looks at 32 x 32 pixels
HASH_SIDE = 64
REDUCING_GAP = 3.0
"""Pillow's own suggestion: as good as without, and faster."""
TRAIN_CROPS, VAL_CROPS = 48, 16
# the builder rejects training rows that are near a validation photo; its threshold lies below this one
MIN_DISTANCE = 10
MAX_CROPS = 10_000


@dataclass(frozen=True)
class Picture:
    """A source picture: what it shows, where that is, and who gave it away."""

    subject: str
    """What a person would call the thing in it."""
    box: Fractions
    """Where that is: left, top, right, bottom as fractions of width and height."""
    folder: str
    licence: str
    credit: str
    grey: bool = False


_CC0, _PUBLIC, _FREE, _BY = "CC0 1.0", "public domain", "no known copyright restrictions", "CC BY 2.0"
# licences and credits: the docstrings of skimage.data and sklearn/datasets/images/README.txt
PICTURES: dict[str, Picture] = {
    "astronaut.png": Picture("astronaut", (0.12, 0.02, 0.88, 1.0), SCIKIT_IMAGE, _PUBLIC, "NASA"),
    "brick.png": Picture("brick wall", FULL, SCIKIT_IMAGE, _CC0, "cc0textures.com, Bricks25", grey=True),
    "camera.png": Picture("cameraman", (0.0, 0.12, 0.64, 1.0), SCIKIT_IMAGE, _CC0, "Lav Varshney", grey=True),
    "chelsea.png": Picture("cat", (0.04, 0.0, 0.86, 1.0), SCIKIT_IMAGE, _CC0, "Stefan van der Walt"),
    "clock_motion.png": Picture("clock", (0.34, 0.28, 0.73, 0.74), SCIKIT_IMAGE, _PUBLIC, "S. van der Walt", grey=True),
    "coffee.png": Picture("coffee cup", (0.12, 0.02, 0.81, 0.95), SCIKIT_IMAGE, _CC0, "Rachel Michetti"),
    "coins.png": Picture("coins", FULL, SCIKIT_IMAGE, _FREE, "Brooklyn Museum", grey=True),
    "grass.png": Picture("grass", FULL, SCIKIT_IMAGE, _CC0, "linolafett, DeviantArt", grey=True),
    "gravel.png": Picture("gravel", FULL, SCIKIT_IMAGE, _CC0, "cc0textures.com, Gravel04", grey=True),
    "hubble_deep_field.jpg": Picture("galaxies", FULL, SCIKIT_IMAGE, _PUBLIC, "NASA, Hubble eXtreme Deep Field"),
    "ihc.png": Picture("tissue", FULL, SCIKIT_IMAGE, _FREE, "Center for Microscopy And Molecular Imaging"),
    "retina.jpg": Picture("retina", FULL, SCIKIT_IMAGE, _CC0, "Mikael Häggström, Wikimedia Commons"),
    "rocket.jpg": Picture("rocket", (0.45, 0.26, 0.57, 1.0), SCIKIT_IMAGE, _PUBLIC, "SpaceX"),
    "china.jpg": Picture("pagoda", (0.12, 0.06, 0.59, 0.92), SCIKIT_LEARN, _BY, "danielbuechele, flickr.com"),
    "flower.jpg": Picture("flower", (0.25, 0.18, 0.71, 0.86), SCIKIT_LEARN, _BY, "vultilion, flickr.com"),
}


@dataclass(frozen=True)
class Photo:
    """One photograph: a square crop of a picture, perhaps mirrored, a little brighter or darker."""

    picture: str
    crop: tuple[int, int, int, int]
    """Left, top, right, bottom in pixels of the picture (at most SOURCE_SIDE wide and high)."""
    mirrored: bool
    light: float

    def open(self, side: int = PHOTO_SIDE) -> Image.Image:
        """The photo, `side` x `side` pixels, RGB."""
        image = _source(self.picture).resize(
            (side, side), Image.Resampling.LANCZOS, box=self.crop, reducing_gap=REDUCING_GAP
        )
        return ImageEnhance.Brightness(ImageOps.mirror(image) if self.mirrored else image).enhance(self.light)

    @property
    def subject(self) -> str:
        return PICTURES[self.picture].subject

    @property
    def grey(self) -> bool:
        return PICTURES[self.picture].grey

    @property
    def subject_box(self) -> Fractions:
        """Where the subject is in this photo, as fractions of its width and height."""
        left, top, right, bottom = self.crop
        box, (width, height) = PICTURES[self.picture].box, _source(self.picture).size
        xs = [min(1.0, max(0.0, (x * width - left) / (right - left))) for x in (box[0], box[2])]
        ys = [min(1.0, max(0.0, (y * height - top) / (bottom - top))) for y in (box[1], box[3])]
        if self.mirrored:
            xs = [1 - xs[1], 1 - xs[0]]
        return xs[0], ys[0], xs[1], ys[1]


@lru_cache(maxsize=4)
def photos(split: Split, seed: int) -> tuple[Photo, ...]:
    """All photos of a split: VAL_CROPS or TRAIN_CROPS of every picture, the same for the same seed.

    Only those of the training need ImageHash, to keep away from those of the validation.
    """
    if split == "val":
        return tuple(photo for name in PICTURES for photo in islice(_crops(name, f"{seed}-val"), VAL_CROPS))
    taken, chosen = [perceptual_hash(photo) for photo in photos("val", seed)], []
    for name in PICTURES:
        far = []
        for photo in islice(_crops(name, f"{seed}-train"), MAX_CROPS):
            fingerprint = perceptual_hash(photo)
            if all((fingerprint ^ other).bit_count() > MIN_DISTANCE for other in taken):
                far.append(photo)
            if len(far) == TRAIN_CROPS:
                break
        else:
            raise RuntimeError(f"only {len(far)} of {TRAIN_CROPS} crops of {name} are far from the validation crops")
        chosen += far
    return tuple(chosen)


def perceptual_hash(photo: Photo) -> int:
    """The 64 bits of ImageHash's phash; `(a ^ b).bit_count()` is the Hamming distance of two."""
    import imagehash

    return int(str(imagehash.phash(photo.open(HASH_SIDE))), 16)


def _crops(name: str, seed: str) -> Iterator[Photo]:
    """Random square crops that keep the middle of the subject in view."""
    rng, (width, height), box = random.Random(f"{seed}-{name}"), _source(name).size, PICTURES[name].box
    centre = ((box[0] + box[2]) / 2 * width, (box[1] + box[3]) / 2 * height)
    while True:
        side = round(rng.uniform(0.6, 0.98) * min(width, height))
        corner = []
        for extent, at in zip((width, height), centre, strict=True):
            # the centre falls into the middle half of the crop
            lowest, highest = max(0, round(at - 0.75 * side)), min(extent - side, round(at - 0.25 * side))
            corner.append(rng.randint(min(lowest, extent - side), max(highest, 0)))
        left, top = corner
        yield Photo(name, (left, top, left + side, top + side), rng.random() < 0.5, round(rng.uniform(0.8, 1.2), 2))


@lru_cache(maxsize=len(PICTURES))
def _source(name: str) -> Image.Image:
    package, _, folder = PICTURES[name].folder.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"{name} comes with the package {package}, which is not installed; pip install -e '.[small-world]'"
        )
    image = open_image(Path(spec.origin).parent / folder / name)
    image.thumbnail((SOURCE_SIDE, SOURCE_SIDE))
    return image
