"""Real faces and detectors lie beside the checkout and are never part of it; tests that use them skip where they are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ASSETS = Path(__file__).resolve().parents[3].parent / "shared" / "assets"


@pytest.fixture(scope="session")
def assets() -> Path:
    if not ASSETS.is_dir():
        pytest.skip(f"the research-only test assets are not in {ASSETS}")
    return ASSETS


@pytest.fixture(scope="session")
def portraits(assets: Path) -> list[np.ndarray]:
    """56 aligned portraits, `uint8` RGB 1024 px."""
    from PIL import Image

    files = sorted((assets / "faces" / "celebahq").rglob("*.jpg"))
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


@pytest.fixture(scope="session")
def portrait_faces(assets: Path, portraits: list[np.ndarray]) -> list[list]:
    from generators.faces.detect import load_detector

    detector = load_detector(assets / "detector" / "scrfd_500m_kps_2d.onnx")
    return [detector.detect(image) for image in portraits]


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A portrait in the public domain, 512 px, that scikit-image carries."""
    import skimage.data

    return skimage.data.astronaut()


# Eyes, nose and mouth corners of the astronaut, read off the picture to a pixel or two.
ASTRONAUT_LANDMARKS = np.array([[203, 112], [246, 111], [222, 133], [206, 150], [246, 150]], np.float32)
