"""ONNX Runtime: the engine of networks in the format ONNX. Starts fast, and runs without PyTorch."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from gyrus.errors import DataError
from gyrus.extras import missing_dependency
from gyrus.files import reading
from gyrus.inference.engines import require_classifier, wanted_threads

EXTRA = "runtime"


def is_installed() -> bool:
    """Whether ONNX Runtime is installed."""
    return find_spec("onnxruntime") is not None


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU, in single precision; an engine as :mod:`gyrus.inference.engines` describes it."""

    name = "ONNX Runtime"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Load a network.

        Args:
            path: A file ``.onnx`` with one input (B, C, *spatial) and the output (B, K), or two.
            threads: By default ``OMP_NUM_THREADS``, or all cores.

        Raises:
            MissingDependencyError: ONNX Runtime is not installed.
            DataError: The file is missing, damaged, or holds another kind of network.
        """
        if not is_installed():
            raise missing_dependency("Running a network in the format ONNX", EXTRA)
        # By default it reports its use to its vendor, and leaves a file in the folder of temporary files.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or wanted_threads()
        options.log_severity_level = 3
        with reading(path, "a network from images (B, C, ...) to logits (B, K) in the format ONNX"):
            content = path.read_bytes()
            try:
                self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # ONNX Runtime has no public base class of its errors
                raise DataError(str(error).splitlines()[0][:200]) from error
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            require_classifier([len(each.shape) for each in (*inputs, *outputs)])
        self._input, self._outputs = inputs[0].name, [each.name for each in outputs]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The outputs float32 (B, K) of images float32 (B, C, *spatial), side by side."""
        found = self._session.run(self._outputs, {self._input: np.ascontiguousarray(images, dtype=np.float32)})
        return np.concatenate(found, axis=1, dtype=np.float32)
