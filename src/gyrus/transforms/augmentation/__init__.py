"""Random augmentation of training images, 2D and 3D: the chain in ``config``, a contact sheet in ``preview``."""
