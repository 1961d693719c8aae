"""Random changes of training images, 2D and 3D: what they are is in ``config``, how they look in ``preview``."""
