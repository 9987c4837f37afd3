"""What a pipeline's call takes, and what it would ignore.

Families differ in how they are guided. Some take `guidance_scale` and ask the network twice for each step; some feed it to a distilled
network; some have `true_cfg_scale`; some have no guidance at all and take the argument without a word. So the call, the pipeline's own
`do_classifier_free_guidance` and its denoiser's configuration are looked at, and a setting that would change nothing is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from generators.errors import InputError
from generators.text_to_image.folder import call_arguments
from generators.text_to_image.sizes import USUAL, denoiser_of

SETTINGS = {"steps": "num_inference_steps"}  # our name for an argument, where it is not the call's own
# What the generator decides itself: these are not to be given under `call`.
OWN = frozenset(
    {
        *("self", "prompt", "generator", "latents", "image", "mask_image", "strength", "height", "width", "output_type", "return_dict"),
        *("num_inference_steps", "guidance_scale", "true_cfg_scale", "negative_prompt", "max_sequence_length", "num_images_per_prompt"),
        *("callback_on_step_end", "callback_on_step_end_tensor_inputs", "callback", "callback_steps", "ip_adapter_image"),
    }
)
HIGH = 100.0  # a guidance at which any pipeline that can guide does
# Off by default here: the first makes an image of another size and shrinks it; the second wants a package that is not a requirement.
OFF = ("use_resolution_binning", "clean_caption")


@dataclass(frozen=True)
class Settings:
    """What a step says of a call. None is the pipeline's own default. `call` has further arguments by name."""

    steps: int | None = None
    guidance_scale: float | None = None
    true_cfg_scale: float | None = None
    negative_prompt: str | None = None
    max_sequence_length: int | None = None
    call: Mapping[str, Any] | None = None


class Call:
    """The call of one pipeline."""

    def __init__(self, pipeline: Any):
        self._pipeline = pipeline
        self._name = type(pipeline).__name__
        self._arguments = call_arguments(type(pipeline))

    @property
    def output_type(self) -> str:
        """What to ask for to get values in [0, 1]: tensors, or arrays where the call brings them to [0, 1] for arrays and pictures alone,
        as that of Kandinsky 3."""
        code = inspect.unwrap(type(self._pipeline).__call__).__code__
        return "np" if ("np", "pil") in code.co_consts else "pt"

    def takes(self, argument: str) -> bool:
        """Whether the call names this argument. One that only a `**kwargs` would swallow is not taken."""
        return argument in self._arguments

    def default(self, argument: str) -> Any:
        """The call's default, or None if it has none."""
        value = self._arguments.get(argument)
        return value if isinstance(value, (int, float, str)) else None

    def options(self, settings: Settings, count: int) -> dict[str, Any]:
        """The arguments for a batch of `count` images. InputError for a setting that the pipeline does not have, or would ignore."""
        self._refuse_ignored(settings)
        options: dict[str, Any] = {name: False for name in OFF if self.takes(name)}
        for setting in ("steps", "guidance_scale", "true_cfg_scale", "max_sequence_length"):
            value = getattr(settings, setting)
            if value is not None:
                options[SETTINGS.get(setting, setting)] = value
        negative = settings.negative_prompt
        if negative is None and (settings.true_cfg_scale or 0) > 1:
            negative = ""  # without one, true classifier-free guidance does nothing
        if negative is not None and self.takes("negative_prompt"):
            options["negative_prompt"] = [negative] * count
        further = self._further(settings.call or {})
        return options | self._contradicted(settings.steps, further) | further

    def without_ignored(self, settings: Settings, given: Sequence[str]) -> Settings:
        """The settings, without the defaults that this pipeline would ignore: only those in `given` were asked for."""
        kept = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
        for name in ("guidance_scale", "true_cfg_scale", "negative_prompt", "max_sequence_length"):
            if name not in given and kept[name] is not None and self._ignores(name, settings) is not None:
                kept[name] = None
        return Settings(**kept)

    def _refuse_ignored(self, settings: Settings) -> None:
        for name in ("steps", "guidance_scale", "true_cfg_scale", "negative_prompt", "max_sequence_length"):
            if getattr(settings, name) is not None and (fault := self._ignores(name, settings)) is not None:
                raise InputError(f"{self._name} {fault[0]}", fault[1])

    def _ignores(self, name: str, settings: Settings) -> tuple[str, str] | None:
        """What is wrong with a setting that the pipeline would ignore, and the fix; None if it counts."""
        if name == "negative_prompt" and not settings.negative_prompt:
            return None  # the empty text is what a pipeline guides away from anyway
        argument = SETTINGS.get(name, name)
        if not self.takes(argument):
            return self._lacks(argument, name)
        if name == "guidance_scale" and self._guidance_is_ignored:
            other = ", or guide with `true_cfg_scale`" if self.takes("true_cfg_scale") else ""
            return "ignores guidance_scale: its network is distilled", f"Remove it{other}"
        return self._negative_is_ignored(settings) if name == "negative_prompt" else None

    def _lacks(self, argument: str, name: str) -> tuple[str, str]:
        if name == "guidance_scale" and self.takes("true_cfg_scale"):
            return "has no guidance_scale", "Its guidance is `true_cfg_scale`"
        near = [known for known in self._arguments if known.endswith(argument)]
        return f"has no {argument}", f"Give {', '.join(near)} under `call`" if near else f"Remove `{name}`"

    def _negative_is_ignored(self, settings: Settings) -> tuple[str, str] | None:
        if self.takes("true_cfg_scale"):
            scale = settings.true_cfg_scale if settings.true_cfg_scale is not None else self.default("true_cfg_scale")
            if scale is not None and scale <= 1:
                return f"ignores negative_prompt at true_cfg_scale {scale:g}", "Set `true_cfg_scale` above 1"
            return None
        scale = settings.guidance_scale if settings.guidance_scale is not None else self.default("guidance_scale")
        if scale is None:
            return None
        guided = self._guided_at(scale)
        if guided is False or (guided is None and scale <= 1):
            return f"ignores negative_prompt at guidance_scale {scale:g}", "Set a higher `guidance_scale`, or remove `negative_prompt`"
        return None

    @cached_property
    def _guidance_is_ignored(self) -> bool:
        """Whether `guidance_scale` changes nothing: it is no input of the denoiser, and the pipeline never asks it twice."""
        config = getattr(denoiser_of(self._pipeline), "config", None)
        is_input = config.get("guidance_embeds") if config is not None else None
        if is_input or (config is not None and config.get("time_cond_proj_dim") is not None):
            return False
        guided = self._guided_at(HIGH)
        if guided is not None:
            return not guided
        return is_input is False and (self.takes("true_cfg_scale") or not self.takes("negative_prompt"))

    def _guided_at(self, scale: float) -> bool | None:
        """Whether the pipeline says that it guides at this `guidance_scale`; None if it does not say."""
        says = getattr(type(self._pipeline), "do_classifier_free_guidance", None)
        if not isinstance(says, property) or says.fget is None:
            return None
        try:
            return bool(says.fget(SimpleNamespace(_guidance_scale=scale, config=self._pipeline.config, **self._pipeline.components)))
        except (AttributeError, TypeError):
            return None

    def _contradicted(self, steps: int | None, given: Mapping[str, Any]) -> dict[str, None]:
        """The default of the call that its own check refuses for so many steps, as None; empty if there is none.

        Sana-Sprint has a timestep between its two steps by default, and refuses it for any other number of them.
        """
        check = getattr(self._pipeline, "check_inputs", None)
        if steps is None or check is None or "num_inference_steps" not in inspect.signature(check).parameters:
            return {}
        values = {name: self._arguments.get(name) for name in inspect.signature(check).parameters}
        values = {name: None if value is inspect.Parameter.empty else value for name, value in values.items()}
        values |= {name: values[name] or USUAL for name in ("height", "width") if name in values}

        def passes(**changed: Any) -> bool:
            try:
                check(**{**values, "prompt": "", **changed})
            except (ValueError, TypeError, AttributeError):
                return False
            return True

        if not passes() or passes(num_inference_steps=steps):
            return {}
        own = [name for name, value in values.items() if value is not None and name not in OWN and name not in given and self.takes(name)]
        return next(({name: None} for name in own if passes(num_inference_steps=steps, **{name: None})), {})

    def _further(self, given: Mapping[str, Any]) -> dict[str, Any]:
        for name in given:
            if name in OWN:
                raise InputError(f"`call` may not have {name}", "It is a setting of the step or decided by the generator")
            if not self.takes(name):
                free = ", ".join(sorted(self._arguments.keys() - OWN)) or "none"
                raise InputError(f"the call of {self._name} has no {name}", f"It has: {free}")
        return dict(given)
