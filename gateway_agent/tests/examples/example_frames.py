"""Camera pictures for tests: real photographs as the scene, a figure cut out of another one that moves across.

The photographs come with PyWavelets. Light, noise and trembling are made here, from a fixed seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pywt.data

WIDTH, HEIGHT = 320, 240


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    x: int
    y: int
    width: int
    height: int

    def covers(self, other: Box) -> float:
        """Return the share of the other's area that lies in this one."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(0, across) * max(0, down) / (other.width * other.height)


def scene(name: str) -> np.ndarray:
    """A photograph of 320 x 240 pixels: "field" from the air, "stairs" or "meadow" from the ground."""
    photograph = {"field": pywt.data.aero, "stairs": pywt.data.ascent, "meadow": pywt.data.camera}[name]()
    left, top = {"field": (150, 60), "stairs": (40, 180), "meadow": (0, 0)}[name]
    if name == "meadow":
        # The lawn and the skyline beside the man, wide enough by its mirror image.
        part = photograph[150 : 150 + HEIGHT, 340 : 340 + WIDTH // 2]
        return np.hstack([part, part[:, ::-1]]).astype(np.float64)
    return photograph[top : top + HEIGHT, left : left + WIDTH].astype(np.float64)


def figure(width: int) -> tuple[np.ndarray, np.ndarray]:
    """The man with the camera, so many pixels wide, and where he is: pixels darker than what is behind him."""
    man = pywt.data.camera()[60:420, 30:330].astype(np.float64)
    step = man.shape[1] / width
    rows = (np.arange(int(man.shape[0] / step)) * step).astype(int)
    columns = (np.arange(width) * step).astype(int)
    small = man[np.ix_(rows, columns)]
    return small, small < 75


class Camera:
    """Takes pictures of a scene, with what a real camera and a real day add to it."""

    def __init__(self, background: np.ndarray, seed: int, *, noise: float = 2.5, tremble: int = 0) -> None:
        self.background = background
        self.random = np.random.default_rng(seed)
        self.noise = noise
        self.tremble = tremble
        self.taken = 0

    def picture(
        self, man: tuple[np.ndarray, np.ndarray] | None = None, at: tuple[int, int] = (0, 0), *, light: float = 1.0
    ) -> tuple[np.ndarray, Box | None]:
        """Take a picture; returns it and the box of what can be seen of the man, if he stands in it."""
        self.taken += 1
        picture = self.background.copy()
        box = None
        if man is not None:
            body, mask = man
            x, y = at
            left, top = max(0, x), max(0, y)
            right, bottom = min(WIDTH, x + body.shape[1]), min(HEIGHT, y + body.shape[0])
            if left < right and top < bottom:
                inside = mask[top - y : bottom - y, left - x : right - x]
                part = picture[top:bottom, left:right]
                part[inside] = body[top - y : bottom - y, left - x : right - x][inside]
                seen_down, seen_across = np.nonzero(inside)
                if len(seen_down):
                    box = Box(
                        left + int(seen_across.min()),
                        top + int(seen_down.min()),
                        int(np.ptp(seen_across)) + 1,
                        int(np.ptp(seen_down)) + 1,
                    )
        if self.tremble:
            picture = np.roll(picture, self.random.integers(-self.tremble, self.tremble + 1, 2), (0, 1))
        # Clouds: slowly brighter and darker, as a factor and as haze.
        cloud = np.sin(self.taken / 40)
        picture = picture * (light * (1 + 0.06 * cloud)) + 4 * cloud
        picture += self.random.normal(0, self.noise, picture.shape)
        return np.clip(np.rint(picture), 0, 255).astype(np.uint8), box
