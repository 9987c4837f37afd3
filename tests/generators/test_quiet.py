"""What the libraries of networks print is kept from people, and only while our own code reads and runs networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from generators.checkpoints import Checkpoint
from generators.methods.ddpm import DDPM
from generators.methods.stable_diffusion import StableDiffusion
from generators.quiet import libraries_quiet
from tests.generators.methods import tiny_diffusion as tiny


@pytest.mark.parametrize("with_checker", [True, False])
def test_a_text_to_image_folder_is_read_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str], with_checker: bool) -> None:
    folder = tiny.stable_diffusion_pipeline(tmp_path / "p", with_checker=with_checker)
    capfd.readouterr()
    model = StableDiffusion.load(Checkpoint(folder))
    model.prompt(["a cat"], [1], steps=2, safety="off")
    assert capfd.readouterr() == ("", "")


def test_a_denoiser_is_read_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tiny.pixel_pipeline(tmp_path / "p")
    capfd.readouterr()
    DDPM.load(Checkpoint(folder)).sample([1], steps=2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bars", [True, False])
def test_the_libraries_are_as_they_were_afterwards_also_after_an_error(bars: bool) -> None:
    import diffusers.utils.logging as of_diffusers
    from transformers.utils import logging as of_transformers

    libraries = (of_transformers, of_diffusers)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity_info()
            (library.enable_progress_bar if bars else library.disable_progress_bar)()
        wanted = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
        with pytest.raises(KeyError), libraries_quiet():
            assert not any(library.is_progress_bar_enabled() for library in libraries)
            raise KeyError
        assert [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries] == wanted
    finally:
        for library, (verbosity, enabled) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            (library.enable_progress_bar if enabled else library.disable_progress_bar)()
