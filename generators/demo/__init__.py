"""The demo's checkpoints, each with its model card, trained by `generators.training` on pictures that packages carry."""
