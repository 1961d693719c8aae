"""From a trained network to files in the formats ONNX and OpenVINO."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gyrus.errors import GyrusError
from gyrus.extras import missing_dependency
from gyrus.models.classifier import Classifier
from gyrus.text import kind_and_first_line


class LogitsAndEmbedding(nn.Module):
    """A classifier that gives its logits (B, K) and the input (B, F) of its last layer."""

    def __init__(self, model: Classifier) -> None:
        """Wrap a network, whose weights are shared."""
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and embedding of images ``(B, C, *spatial)``."""
        vectors = self.model.embedding(images)
        return self.model.head.classify(vectors), vectors


def write_onnx(model: Classifier, shape: tuple[int, ...], path: Path) -> None:
    """Write a network in the format ONNX, for any number of images: outputs ``logits`` and ``embedding``.

    Args:
        model: The network; set to evaluation mode and moved to the CPU.
        shape: (C, *spatial).
        path: The file.

    Raises:
        MissingDependencyError: ONNX is not installed.
        GyrusError: The network has an operation that ONNX does not have.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  torch.onnx imports it late
    except ImportError as error:
        raise missing_dependency("Export", "export") from error
    example = torch.rand(2, *shape)  # a batch of one would become a constant
    with warnings.catch_warnings(), torch.no_grad(), _quiet("torch.onnx"), _quiet("onnxscript"):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                LogitsAndEmbedding(model).cpu().float().eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("images")},),
                input_names=["images"],
                output_names=["logits", "embedding"],
                verbose=False,
            )
            network = program.model_proto  # type: ignore[union-attr]
            onnx.checker.check_model(network)
        except Exception as error:  # whatever torch.export raises for what it does not support
            raise GyrusError(
                f"This network cannot be written in the format ONNX ({kind_and_first_line(error)})."
            ) from error
    _forget_sources(network)
    path.write_bytes(network.SerializeToString())


def write_openvino(onnx: Path, path: Path) -> None:
    """Convert a network in the format ONNX to that of OpenVINO, in single precision: ``path`` (.xml) and a .bin.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    from gyrus.inference.engines import openvino_library

    openvino = openvino_library()
    openvino.save_model(openvino.convert_model(onnx), path, compress_to_fp16=False)


def _forget_sources(network: Any) -> None:
    """Remove what names files and lines of this machine: the stack trace of every node."""
    del network.metadata_props[:]
    network.doc_string = ""
    graphs = [network.graph, *network.functions]
    for graph in graphs:
        graph.doc_string = ""
        del graph.metadata_props[:]
        values = [*graph.value_info] if hasattr(graph, "value_info") else []
        if graph is network.graph:
            values += [*graph.input, *graph.output, *graph.initializer]
        for part in [*graph.node, *values]:
            part.doc_string = ""
            del part.metadata_props[:]


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Within the block, a logger reports errors only."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
