"""In-domain inversion (Zhu et al., "In-Domain GAN Inversion for Real Image Editing", ECCV 2020).

An encoder gives codes that the generator's codes look like; an optimisation then fits them to the picture, and the
encoder, applied to what the generator makes of them, keeps them in that domain.
"""
