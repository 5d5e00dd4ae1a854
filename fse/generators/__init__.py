"""Style-based generators: one adapter a family behind :class:`~fse.generators.style_generator.StyleGenerator`."""
