"""StyleRes (Pehlivan et al., "Transforming the Residuals for Real Image Editing with StyleGAN", CVPR 2023)."""
