"""The libraries that networks come from, without what they print for people who train or who write code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def libraries_quiet() -> Iterator[None]:
    """Without the warnings and the progress bars of transformers and diffusers, both of which are as they were afterwards.

    They warn that image processors, which nothing here uses, want torchvision, and of arguments that a class ignores, and show a bar for
    the parts of a pipeline and for the weights of a network, even where the output is no terminal.
    """
    import diffusers.utils.logging as of_diffusers
    from transformers.utils import logging as of_transformers

    libraries = (of_transformers, of_diffusers)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, (verbosity, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
