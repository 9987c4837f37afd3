"""A page on this machine: a picture is dropped in, and what the detector and the file say comes out. Nothing leaves the machine.

The page is NiceGUI's (the extra `app`), served on loopback alone. Its scripts and styles come from the package, not from the network.
"""

from __future__ import annotations

import base64
import socket
from typing import Any

from flows.examine import Examined, examine
from foreign.errors import InputError
from ntf_model.detector import Detector

HOST = "127.0.0.1"
MOST_BYTES = 64 * 2**20  # of a picture
COLOURS = {"real": "positive", "fake": "negative", "unsure": "warning"}


def serve(detector: Detector, source: str, port: int, on_ready: Any = None) -> None:
    """Serves the page on loopback until it is stopped; `on_ready(address)` is called when it can be opened. `port` 0 takes a free one.

    Raises InputError if NiceGUI is not installed or the port is taken.
    """
    try:
        import nicegui  # noqa: F401
    except ImportError:
        raise InputError("the page needs the package nicegui", "pip install 'natural-trace-foundry[app]'") from None
    import uvicorn

    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()  # from here on a browser waits, and is not refused
    except OSError as error:
        listening.close()
        raise InputError(f"the port {port} cannot be used ({error.strerror})", "Give another --port, or 0 for a free one") from None
    with listening:
        config = uvicorn.Config(build(detector, source), log_level="warning", lifespan="on")
        if on_ready:
            on_ready(f"http://{HOST}:{listening.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listening])


def build(detector: Detector, source: str) -> Any:
    """The page as an ASGI app. `source` is what the page calls the detector's run."""
    from fastapi import FastAPI
    from nicegui import run, ui
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # A page of the web whose name leads to this machine could otherwise read what is shown here
    server.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])

    def page() -> None:
        ui.page_title("Natural Trace Foundry")
        with ui.column().classes("w-full max-w-4xl mx-auto p-4"):
            ui.label("Is this picture fake?").classes("text-2xl")
            ui.label(f"{detector.title} from {source}. Pictures stay on this machine.").classes("text-gray-600")
            ui.label(detector.verdicts_said).classes("text-sm text-gray-600")
            results = ui.column().classes("w-full").props('aria-live="polite"')

            async def take(event: Any) -> None:
                data = await event.file.read()
                with results:
                    results.clear()
                    try:
                        examined = await run.io_bound(examine, detector, data, event.file.name)
                    except InputError as error:
                        ui.label(f"not read: {error.message}").classes("text-negative error")
                    else:
                        show(examined)
                upload.reset()

            def refuse() -> None:
                with results:
                    results.clear()
                    ui.label(f"not read: the file has more than {MOST_BYTES // 2**20} MiB").classes("text-negative error")

            options = {"auto_upload": True, "max_file_size": MOST_BYTES, "on_upload": take, "on_rejected": refuse}
            upload = ui.upload(label="Drop a picture here, or press +", **options)
            upload.classes("w-full").move(target_index=3)

    ui.run_with(server, title="Natural Trace Foundry", root=page)
    return server


def show(examined: Examined) -> None:
    """Draws the result into the current element of the page. Names are set as text, never as HTML."""
    from nicegui import ui

    with ui.card().classes("w-full result"):
        ui.label(f"{examined.name}, {examined.width} x {examined.height} pixels").classes("text-sm text-gray-600 name")
        letters = "black" if examined.verdict == "unsure" else "white"
        ui.badge(examined.verdict, color=COLOURS[examined.verdict], text_color=letters).classes("text-2xl p-3 verdict")
        for label, value in rows(examined):
            with ui.row().classes("w-full no-wrap"):
                ui.label(label).classes("w-44 shrink-0 text-gray-600 what")
                ui.label(value).classes("value")
        with ui.row():
            pictures = [(examined.picture, "the picture", "the picture")] + (
                [(examined.map, "map", examined.map_note)] if examined.map else []
            )
            for data, name, text in pictures:
                with ui.column():
                    ui.html(f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(data).decode()}">', sanitize=False)
                    ui.label(text).classes("text-sm text-gray-600 max-w-xs")
        if examined.map is None:
            ui.label(examined.map_note).classes("text-sm text-gray-600")
        ui.label("What the file says of itself").classes("text-lg")
        for sentence in examined.metadata:
            ui.label(sentence).classes("metadata")
        ui.label("A verdict is no proof. What a file says of itself can be removed or made up.").classes("text-sm text-gray-600")


def rows(examined: Examined) -> list[tuple[str, str]]:
    """The figures, as (what it is, its value)."""
    unsure = "no calibration was saved" if examined.band is None else f"unsure from {examined.band[0]:.3f} to {examined.band[1]:.3f}"
    return [
        ("P(fake)", f"{examined.probability:.3f}"),
        ("calibrated", "not known" if examined.calibrated is None else f"{examined.calibrated:.3f}"),
        ("band", unsure),
        ("threshold", f"{examined.threshold:.3f}"),
        ("distance to the trace", "this detector has none" if examined.distance is None else f"{examined.distance:.3f}"),
    ]
