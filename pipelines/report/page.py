"""Writes the page: every section's view of a version through its template, in one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from foreign.progress import Progress, silent
from generators.errors import InputError
from generators.files import write_text
from pipelines.features import FeatureNetwork
from pipelines.manifest.schema import Manifest
from pipelines.report import words
from pipelines.report.album import EXACT
from pipelines.report.inputs import Inputs
from pipelines.report.sections import SECTIONS
from pipelines.report.source import Source
from pipelines.store import Store

NOTHING = Inputs()


def write_report(
    store: Store,
    output: Path,
    version: int | str | None = None,
    inputs: Inputs = NOTHING,
    features: FeatureNetwork | None = None,
    on_progress: Progress = silent,
) -> Path:
    """Writes the page of a version to `output` and returns it; what it shows of detectors is in `inputs`.

    With `features`, subsets also get FID and KID against their real images, as far as there are images enough. The file appears whole or
    not at all. Raises InputError where it cannot be written.
    """
    shown = store.version(version)
    manifest = Manifest.model_validate(shown.manifest)
    page = _render(Source(store, shown, manifest, store.rows(version=shown.number), inputs, features), on_progress)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, page)
    except OSError as error:
        raise InputError.unwritable(f"write the report {output}", error) from None
    return output


def _render(source: Source, on_progress: Progress) -> str:
    views = []
    for done, section in enumerate(SECTIONS):
        on_progress(done, len(SECTIONS), section.title)
        views.append((section, section.view(source)))
    on_progress(len(SECTIONS), len(SECTIONS), "the page")
    script = (resources.files("pipelines.report") / "page.js").read_text(encoding="utf-8").strip()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            source=source,
            sections=[(section, view) for section, view in views if view is not None],
            missing=[(section, section.hint.format(dataset=source.named)) for section, view in views if view is None],
            command=source.command,
            exact=EXACT,
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _environment() -> jinja2.Environment:
    loader = jinja2.FunctionLoader(lambda name: (resources.files("pipelines.report") / name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["number"] = _number
    environment.filters["percent"] = words.percent
    environment.filters["interval"] = words.interval
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    environment.filters["commands"] = _commands
    return environment


def _number(value: Any, form: str = "%.2f", absent: str = "") -> str:
    return absent if value is None else form % value


def _commands(text: str) -> Markup:
    """Text with `commands` between backquotes, as HTML."""
    return Markup(re.sub(r"`([^`]*)`", r'<code class="copy">\1</code>', str(escape(text))))
