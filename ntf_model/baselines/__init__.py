"""The detectors that NTF is compared with: their networks, preprocessing and recipes, one file each, trained on the same data as NTF."""
