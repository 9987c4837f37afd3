"""Pictures as they are met: shared, made smaller, compressed again. The same for reals and fakes, by the picture's own seed."""

from pipelines.delivery.deliver import Delivered, deliver

__all__ = ["Delivered", "deliver"]
