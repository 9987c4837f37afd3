from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from generators.demo.pictures import channels_of, crop, distinct_crops, held_out_pictures, pictures_in, training_pictures
from generators.errors import InputError
from generators.seeding import numpy_rng


def test_faces_are_held_out_by_photograph():
    training, held_out = training_pictures("faces"), held_out_pictures("faces")
    assert (len(training), len(held_out)) == (68, 34)
    names = [picture.photograph for picture in training + held_out]
    assert len(set(names)) == 102
    assert {"astronaut", "grace-hopper"} < set(names)


def test_photographs_are_held_out_by_cells_and_share_no_pixels():
    training, held_out = training_pictures("photos"), held_out_pictures("photos")
    assert {picture.photograph for picture in training} == {picture.photograph for picture in held_out}
    assert not {picture.image.tobytes() for picture in training} & {picture.image.tobytes() for picture in held_out}


@pytest.mark.parametrize("collection", ["faces", "photos"])
def test_every_picture_names_its_licence_and_has_room_for_a_crop(collection):
    for picture in training_pictures(collection) + held_out_pictures(collection):
        assert picture.image.dtype == np.uint8
        assert picture.image.ndim == 3
        assert min(picture.image.shape[:2]) > 32
        assert picture.licence
        assert picture.attribution


def test_faces_are_grey_and_photographs_are_not():
    assert channels_of(training_pictures("faces") + held_out_pictures("faces")) == 1
    assert channels_of(training_pictures("photos")) == 3


def test_a_crop_comes_from_its_picture_and_from_its_seed_alone():
    picture = held_out_pictures("photos")[3]
    first, again = crop(picture, numpy_rng(5)), crop(picture, numpy_rng(5))
    np.testing.assert_array_equal(first, again)
    windows = np.lib.stride_tricks.sliding_window_view(picture.image, (32, 32), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    either = (windows == first).all((2, 3, 4)) | (windows == first[:, ::-1]).all((2, 3, 4))
    assert either.any()


@pytest.mark.parametrize(("collection", "count"), [("faces", 100), ("photos", 150)])
def test_there_are_enough_distinct_held_out_crops(collection, count):
    crops = distinct_crops(held_out_pictures(collection), count, seed=7)
    assert len({image.tobytes() for _, image in crops}) == count
    per_photograph = [picture.photograph for picture, _ in crops]
    assert len(set(per_photograph)) == len({picture.photograph for picture in held_out_pictures(collection)})


def test_more_crops_than_there_are_is_refused():
    with pytest.raises(InputError, match="different crops"):
        distinct_crops(held_out_pictures("faces")[:1], 30, seed=0)


def test_a_folder_of_ones_own(tmp_path):
    (tmp_path / "ada").mkdir()
    Image.fromarray(np.full((40, 60, 3), 9, np.uint8)).save(tmp_path / "ada" / "one.png")
    (picture,) = pictures_in(tmp_path, 16)
    assert picture.image.shape == (16, 24, 3)
    assert (picture.photograph, picture.identity) == ("ada/one.png", "ada")


def test_a_folder_with_what_is_no_image_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="no images in"):
        pictures_in(tmp_path, 16)
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"broken\.png is not an image"):
        pictures_in(tmp_path, 16)


def test_an_image_that_is_too_small_is_refused_by_name(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=r"small\.png is 20 x 10 px"):
        pictures_in(tmp_path, 16)
