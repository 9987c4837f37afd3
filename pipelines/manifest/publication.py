"""What whoever publishes a dataset states about it: the block `publish` of a manifest. It decides no pixel."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipelines.manifest.chains import Strict


def _is_address(text: str) -> str:
    """`text`, if it is an http or https address or an e-mail address."""
    if text.startswith(("https://", "http://")) and len(text.split()) == 1:
        return text
    name, _, host = text.removeprefix("mailto:").partition("@")
    if name and "." in host and len(text.split()) == 1:
        return text
    raise ValueError("write an address that begins with https://, or an e-mail address")


def _is_url(text: str) -> str:
    if not text.startswith(("https://", "http://")) or len(text.split()) != 1:
        raise ValueError("write an address that begins with https://")
    return text


Text = Annotated[str, Field(min_length=1, max_length=20_000)]
Line = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\r\n]+$")]
Url = Annotated[str, Field(max_length=2_000), AfterValidator(_is_url)]
Contact = Annotated[str, Field(max_length=2_000), AfterValidator(_is_address)]


class Creator(Strict):
    """Who made the dataset: a person or an organisation, with a page or an ORCID if there is one."""

    name: Line
    kind: Literal["person", "organisation"] = "person"
    url: Url | None = None


class ResponsibleAI(Strict):
    """Statements under names of Croissant's responsible-AI vocabulary. Each is the publisher's own text; what is not stated is left out."""

    biases: Text | None = None
    limitations: Text | None = None
    use_cases: Text | None = None
    social_impact: Text | None = None
    sensitive: Text | None = None  # personal and sensitive information
    maintenance: Text | None = None


class Energy(Strict):
    """Energy that somebody measured: the figure and how it was measured."""

    kwh: float = Field(gt=0, allow_inf_nan=False)
    measured: Line


class Publication(Strict):
    """The block `publish`.

    `licence` is the licence under which the dataset as a whole is given: the Hub's name of it (`cc-by-4.0`) or a text with
    `licence_url`. Without one, the licences of everything in it are listed, and none is claimed for the whole. `contact` is where a person
    asks to be taken out. `citation` is BibTeX; without it an entry is made of what is known.
    """

    title: Line | None = None
    description: Text | None = None
    creators: tuple[Creator, ...] = ()
    url: Url | None = None
    contact: Contact | None = None
    licence: Line | None = None
    licence_url: Url | None = None
    citation: Text | None = None
    tags: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._:-]{0,60}$")], ...] = ()
    responsible_ai: ResponsibleAI = ResponsibleAI()
    energy: Energy | None = None
