"""Steps that rework a part of a picture: swapped and restored faces, inpainted masks, and where they lie."""
