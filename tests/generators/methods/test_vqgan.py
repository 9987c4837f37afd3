from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from generators import registry
from generators.base import SampleRequest
from generators.checkpoints import Checkpoint, write_safetensors
from generators.errors import CheckpointError, InputError
from generators.images import to_float, to_uint8
from generators.loading import load_generator
from generators.methods.vqgan import VQGAN
from generators.networks.vq.gpt import GPT
from generators.networks.vq.vqgan import Codebook, FirstStage, FirstStageConfig

SEEDS = [5, 2**40 + 1, 7, 0, 123456789, 11, 12, 13]
CONFIG = FirstStageConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_levels=(1,), z_channels=8, embed_dim=4, n_embed=16)


def tensors(block_size: int = 16) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    first_stage, transformer = FirstStage(CONFIG), GPT(16, block_size, 2, 2, 32)
    torch.nn.init.normal_(transformer.pos_emb)
    torch.nn.init.normal_(first_stage.decoder.conv_out.weight, std=0.1)
    state = {f"transformer.{name}": value for name, value in transformer.state_dict().items()}
    return state | {f"first_stage_model.{name}": value for name, value in first_stage.state_dict().items()}


@pytest.fixture
def demo(tmp_path: Path) -> Checkpoint:
    write_safetensors(tmp_path / "demo.safetensors", tensors(), {"n_head": 2, "sos_token": 3})
    return Checkpoint(tmp_path / "demo.safetensors")


def test_same_seed_gives_same_image_whatever_the_batch_or_order(demo: Checkpoint) -> None:
    generator = registry.get("vqgan").load(demo)
    together = generator.sample(SEEDS).astype(int)
    assert together.shape == (8, 8, 8, 3)
    assert together.std() > 5
    assert len({image.tobytes() for image in together}) == 8
    for batch in (1, 3):
        generator.batch_size = batch
        assert np.abs(generator.sample(SEEDS[::-1])[::-1].astype(int) - together).max() <= 1


def test_parameters_and_starting_token_matter(demo: Checkpoint) -> None:
    generator = VQGAN.load(demo)
    greedy = generator.sample([1, 2], top_k=1)
    assert np.array_equal(greedy[0], greedy[1])
    assert not np.array_equal(generator.sample([1]), generator.sample([2]))
    generator.sos_token = 4
    assert not np.array_equal(generator.sample([1, 2], top_k=1), greedy)
    with pytest.raises(InputError, match="vqgan: temperature"):
        generator.sample([1], temperature=0)


def test_edit_is_what_the_codes_of_the_image_decode_to(demo: Checkpoint) -> None:
    generator = VQGAN.load(demo)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    first_stage = generator.first_stage
    with torch.inference_mode():
        z = first_stage.encode(to_float(images))
        flat = z.permute(0, 2, 3, 1).reshape(-1, 4)
        nearest = torch.cdist(flat, first_stage.quantize.embedding.weight).argmin(1).view(5, 16)
        wanted = to_uint8(first_stage.decode(nearest, 4, 4), rounding="floor").astype(int)
    assert np.abs(generator.edit(images, SEEDS[:5]).astype(int) - wanted).max() <= 1
    with pytest.raises(InputError, match="cannot encode images of 7x7"):
        generator.edit(images[:, :7, :7], SEEDS[:5])


def test_a_picture_is_encoded_at_its_own_size(demo: Checkpoint) -> None:
    """Where the sides are multiples of the factor nothing else is done; elsewhere the edge is mirrored, and cut off again."""
    generator = VQGAN.load(demo)
    image = np.random.default_rng(0).integers(0, 256, (1, 12, 10, 3), dtype=np.uint8)
    whole = generator.edit(image, [1], region="picture")
    assert np.array_equal(whole, generator.edit(image, [1]))
    for height, width in ((11, 10), (12, 9), (11, 9)):
        part = image[:, :height, :width]
        mirrored = np.pad(part, ((0, 0), (0, 12 - height), (0, 10 - width), (0, 0)), mode="edge")
        again = generator.edit(part, [1], region="picture")
        assert again.shape == part.shape
        assert np.array_equal(again, generator.edit(mirrored, [1])[:, :height, :width])
    assert VQGAN.edit_input(generator.parse_parameters({"region": "picture"})) == "picture"
    assert VQGAN.edit_input(generator.parse_parameters({})) == "square"
    assert "region" not in generator.parse_parameters({}).model_dump(mode="json")  # keys of earlier shards stay


def test_wrong_files_are_named(tmp_path: Path) -> None:
    def load(state: dict[str, torch.Tensor], **options: object) -> VQGAN:
        torch.save({"state_dict": state, "global_step": 3}, tmp_path / "x.ckpt")
        return VQGAN.load(Checkpoint(tmp_path / "x.ckpt", options))

    with pytest.raises(CheckpointError, match=r"x\.ckpt holds no VQGAN with a transformer"):
        load({"first_stage_model.decoder.conv_in.weight": torch.zeros(1)})
    cut = tensors()
    del cut["first_stage_model.post_quant_conv.bias"]
    with pytest.raises(CheckpointError, match=r"x\.ckpt lacks the tensor post_quant_conv\.bias"):
        load(cut, n_head=2)
    with pytest.raises(CheckpointError, match="width 32 cannot have 5 heads"):
        load(tensors(), n_head=5)
    with pytest.raises(CheckpointError, match=r"20 positions are no square image.*`resolution`"):
        load(tensors(20), n_head=2)
    assert load(tensors(20), n_head=2, resolution=8).sample([1]).shape == (1, 8, 8, 3)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_the_nearest_code_is_found_in_half_precision_too(precision: torch.dtype) -> None:
    """Codes far from 0 and near each other: their squared distances are less than what half precision tells apart beside their squares."""
    codebook = Codebook(16, 4).requires_grad_(False)
    codebook.embedding.weight[:] = 4 + torch.arange(16.0)[:, None] / 32 * torch.tensor([1.0, -1.0, 1.0, 1.0])
    codebook.to(precision)
    wanted = torch.arange(16).view(1, 16)
    z = codebook.embedding.weight.T.reshape(1, 4, 4, 4)
    assert torch.equal(codebook(z), wanted)


def test_codes_that_were_drawn_from_overflowing_logits_are_drawn_again_in_float32(demo: Checkpoint) -> None:
    """The picture of such codes is finite, so that it does not tell."""
    wide, halved = (load_generator("vqgan", Checkpoint(demo.path, {"precision": name})) for name in ("float32", "float16"))
    for generator in (wide, halved):
        generator.transformer.ln_f.weight.fill_(60_000.0)
    result = halved.run(SampleRequest([1, 2]))
    assert result.columns["made_with"] == [{"batch": 2, "precision": "float32"}] * 2
    assert np.abs(result.images.astype(int) - wide.sample([1, 2])).mean() < 3  # weights that were rounded to float16
