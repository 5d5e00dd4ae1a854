"""HFGI (Wang et al., "High-Fidelity GAN Inversion for Image Attribute Editing", CVPR 2022)."""
