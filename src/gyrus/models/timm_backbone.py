"""Any network of timm as a backbone. Only this module imports timm, when a model is built.

timm: Ross Wightman, https://github.com/huggingface/pytorch-image-models, Apache-2.0.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from gyrus.errors import UnknownNameError
from gyrus.models.classifier import Backbone, Signature
from gyrus.models.options import TimmOptions
from gyrus.models.pretrained_weights import NOT_STATED, HubWeights
from gyrus.registry import nearest


class TimmBackbone(Backbone):
    """A network of timm without its classifier.

    Args:
        architecture: A name in ``timm.list_models()``, with or without a tag: "resnet50", "resnet50.a1_in1k".
        signature: Channels and size of the images.
        options: Its options.

    Raises:
        UnknownNameError: timm has no such network.
    """

    def __init__(self, architecture: str, signature: Signature, options: TimmOptions) -> None:
        super().__init__()
        self.architecture = architecture
        self.network = _create(architecture, signature, options)
        self.channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        has_tokens = hasattr(self.network, "num_prefix_tokens")
        self.grid: tuple[int, ...] | None = tuple(self.network.patch_embed.grid_size) if has_tokens else None
        self.own_pool = self.grid is None and not self.channels_last
        self.num_channels = self.network.num_features
        self.num_features = self.network.head_hidden_size if self.own_pool else self.num_channels
        fixed = self.network.pretrained_cfg.get("fixed_input_size", False)
        self.fixed_size = signature.image_size if fixed else None
        head = self.network.pretrained_cfg.get("classifier") or ()
        self.pretrained_head = (head,) if isinstance(head, str) else tuple(head)
        self.smallest = (self.network.feature_info[-1]["reduction"],) * 2

    def forward(self, images: Tensor) -> Tensor:
        """Feature map; the tokens of a transformer are arranged as the grid of patches that they represent."""
        features = self.network.forward_features(images)
        if self.grid is not None:
            patches = features[:, self.network.num_prefix_tokens :]
            return patches.mT.unflatten(2, self.grid)
        return features.movedim(-1, 1) if self.channels_last else features

    def pool(self, features: Tensor) -> Tensor:
        """The network's own pooling with the norm or layer after it; for tokens, the mean over patches."""
        return self.network.forward_head(features, pre_logits=True) if self.own_pool else super().pool(features)

    def stages(self) -> tuple[nn.Module, ...]:
        """The layers as timm groups them, stem first."""
        from timm.models._manipulate import group_with_matcher

        matcher = self.network.group_matcher(coarse=True)
        groups = group_with_matcher(self.network.named_parameters(), matcher, return_values=False)
        return tuple(nn.ModuleList(self._owners(groups[key])) for key in sorted(groups))

    def published(self) -> HubWeights | None:
        """The weights that timm publishes on the hub, for the tag in the name or timm's default tag."""
        published = self.network.pretrained_cfg
        if not published.get("hf_hub_id"):
            return None
        names = (published.get("hf_hub_filename"), "model.safetensors", "pytorch_model.bin")
        licence = published.get("license") or NOT_STATED
        return HubWeights(published["hf_hub_id"], tuple(name for name in names if name), licence)

    def pretrained_part(self) -> nn.Module:
        """The network of timm."""
        return self.network

    def translate(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights converted by timm's filter for this family: other names, position embeddings of other sizes."""
        module = sys.modules[type(self.network).__module__]
        own_filter = getattr(module, "checkpoint_filter_fn", None)
        if own_filter is None or self.network.state_dict().keys() <= weights.keys():
            return dict(weights)
        return own_filter(dict(weights), self.network)

    def _owners(self, parameters: list[str]) -> list[nn.Module]:
        direct = [self.network.get_parameter(name) for name in parameters if "." not in name]
        names = dict.fromkeys(name.rpartition(".")[0] for name in parameters if "." in name)
        modules = [self.network.get_submodule(name) for name in names]
        return [nn.ParameterList(direct), *modules] if direct else modules


def _create(architecture: str, signature: Signature, options: TimmOptions) -> Any:
    import timm

    known = timm.list_models()
    if architecture.partition(".")[0] not in known:
        suggestion = nearest(architecture, known)
        hint = f" Did you mean 'timm:{suggestion}'?" if suggestion else ""
        raise UnknownNameError(
            f"timm {timm.__version__} has no network '{architecture}'.{hint} "
            "timm.list_models() in Python lists all of them."
        )
    published = timm.get_pretrained_cfg(architecture)
    extra: dict[str, Any] = {"drop_path_rate": options.drop_path} if options.drop_path else {}
    if published is not None and published.fixed_input_size:
        extra["img_size"] = signature.image_size
    return timm.create_model(architecture, num_classes=0, in_chans=signature.in_channels, **extra)
