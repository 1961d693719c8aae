"""ResNet and DenseNet for slices and volumes, from MONAI. Only this module imports it, when a model is built.

He et al. 2016, https://arxiv.org/abs/1512.03385; for volumes Hara et al. 2018, https://arxiv.org/abs/1711.09577;
Huang et al. 2017, https://arxiv.org/abs/1608.06993. MONAI: https://github.com/Project-MONAI/MONAI, Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from gyrus.models.classifier import Backbone, Signature
from gyrus.models.options import DenseNetOptions, ResNetOptions

_RESNET_BLOCKS: dict[int, tuple[str, tuple[int, ...]]] = {
    10: ("basic", (1, 1, 1, 1)),
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
_DENSENET_BLOCKS: dict[int, tuple[int, ...]] = {
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
    264: (6, 12, 64, 48),
}


class ResNet(Backbone):
    """MONAI's ResNet without its last layers; parameters are named as in 2D weights, so that these can be inflated.

    Args:
        signature: Channels and size of the images.
        options: The architecture.
    """

    def __init__(self, signature: Signature, options: ResNetOptions) -> None:
        super().__init__()
        from monai.networks.nets.resnet import ResNet as MonaiResNet

        block, layers = _RESNET_BLOCKS[options.depth]
        widths = [options.width * 2**stage for stage in range(4)]
        self.network = MonaiResNet(
            block,
            list(layers),
            widths,
            spatial_dims=signature.spatial_dims,
            n_input_channels=signature.in_channels,
            conv1_t_stride=options.stem_stride,
            feed_forward=False,
            bias_downsample=False,
        )
        self.num_channels = self.num_features = widths[-1] * (4 if block == "bottleneck" else 1)
        self.smallest = (16 * options.stem_stride,) * signature.spatial_dims

    def forward(self, images: Tensor) -> Tensor:
        """Feature map of the last stage."""
        features = self.network.maxpool(self.network.act(self.network.bn1(self.network.conv1(images))))
        for stage in self.stages()[1:]:
            features = stage(features)
        return features

    def stages(self) -> tuple[nn.Module, ...]:
        """Stem, then the four stages."""
        net = self.network
        return (nn.ModuleList([net.conv1, net.bn1]), net.layer1, net.layer2, net.layer3, net.layer4)

    def pretrained_part(self) -> nn.Module:
        """The network of MONAI."""
        return self.network


class DenseNet(Backbone):
    """MONAI's DenseNet without its last layers, and so without the 3D pooling that is not deterministic on CUDA.

    Args:
        signature: Channels and size of the images.
        options: The architecture.
    """

    def __init__(self, signature: Signature, options: DenseNetOptions) -> None:
        super().__init__()
        from monai.networks.nets.densenet import DenseNet as MonaiDenseNet

        network = MonaiDenseNet(
            signature.spatial_dims,
            signature.in_channels,
            out_channels=1,
            init_features=options.width,
            growth_rate=options.growth,
            block_config=_DENSENET_BLOCKS[options.depth],
        )
        self.features = network.features
        self.num_channels = self.num_features = network.features.get_parameter("norm5.weight").numel()
        self.smallest = (32,) * signature.spatial_dims

    def forward(self, images: Tensor) -> Tensor:
        """Feature map of the last block, after its norm and ReLU."""
        return self.features(images).relu()

    def stages(self) -> tuple[nn.Module, ...]:
        """Stem, then the dense blocks, each with the transition before it, the last with the norm after it."""
        layers = dict(self.features.named_children())
        blocks = [nn.ModuleList([layers["denseblock1"]])]
        blocks += [nn.ModuleList([layers[f"transition{i - 1}"], layers[f"denseblock{i}"]]) for i in (2, 3, 4)]
        blocks[-1].append(layers["norm5"])
        return (nn.ModuleList([layers["conv0"], layers["norm0"]]), *blocks)

    def translate(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """2D weights under MONAI's names, which have one more level (``layers``)."""
        own = self.state_dict()
        renamed = {name.replace(".layers.", "."): name for name in own}
        return {renamed.get(name, name): value for name, value in weights.items()}
