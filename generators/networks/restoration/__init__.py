"""Networks that restore pictures and faces: Real-ESRGAN, GFPGAN and CodeFormer."""
