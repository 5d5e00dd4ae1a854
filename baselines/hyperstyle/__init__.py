"""HyperStyle (Alaluf et al., "StyleGAN Inversion with HyperNetworks for Real Image Editing", CVPR 2022)."""
