"""The Feature-Style Encoder (Yao et al., ECCV 2022) and what an inversion needs around it."""
