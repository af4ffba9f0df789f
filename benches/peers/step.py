"""The training step and the inference of benches/common/network.rs in PyTorch."""

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

from operators import overlap

CLASSES = 4
# As Supervision::Halving: 1, 1/2, ..., the coarsest head 0, divided by their sum.
HEAD_WEIGHTS = [2 / 3, 1 / 3, 0.0]


def network(device):
    return PlainConvUNet(
        input_channels=1,
        n_stages=4,
        features_per_stage=[16, 32, 64, 128],
        conv_op=torch.nn.Conv3d,
        kernel_sizes=[[3] * 3] * 4,
        strides=[[1] * 3] + [[2] * 3] * 3,
        n_conv_per_stage=2,
        num_classes=CLASSES,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    ).to(device)


def dice_ce(logits, labels):
    """Cross-entropy + soft Dice without background, as nnU-Net's default."""
    labels = torch.nn.functional.interpolate(labels, logits.shape[2:], mode="nearest-exact").long()
    entropy = torch.nn.functional.cross_entropy(logits, labels[:, 0])
    return entropy - overlap(torch.softmax(logits, 1), labels)


def image(edge, device):
    return torch.randn(1, 1, edge, edge, edge, device=device)


def training(edge, device):
    """A function that runs one step, and the number of parameters."""
    net = network(device)
    sgd = torch.optim.SGD(net.parameters(), 0.01, 0.99, weight_decay=3e-5, nesterov=True)
    patch = image(edge, device)
    labels = torch.randint(0, CLASSES, patch.shape, device=device).float()

    def step():
        sgd.zero_grad()
        heads = zip(HEAD_WEIGHTS, net(patch))
        loss = sum(w * dice_ce(logits, labels) for w, logits in heads if w)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
        sgd.step()
        return loss.item()

    return step, sum(p.numel() for p in net.parameters())


def inference(edge, device):
    """A function that runs the network's finest head, and the number of parameters."""
    net = network(device).eval()
    net.decoder.deep_supervision = False
    patch = image(edge, device)

    def infer():
        with torch.no_grad():
            return net(patch)

    return infer, sum(p.numel() for p in net.parameters())
