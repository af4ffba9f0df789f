"""The training step and the inference of benches/step.rs in PyTorch, on the CPU, for a ratio on one machine.

    pip install torch dynamic_network_architectures
    python benches/peers/step.py [THREADS]
"""

import sys
import time

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

CLASSES = 4
EDGE = 64
STEPS = 5
# As Supervision::Halving: 1, 1/2, ..., the coarsest head 0, divided by their sum.
HEAD_WEIGHTS = [2 / 3, 1 / 3, 0.0]


def network():
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
    )


def dice_ce(logits, labels):
    """Cross-entropy + soft Dice without background, as nnU-Net's default."""
    labels = torch.nn.functional.interpolate(labels, logits.shape[2:], mode="nearest-exact")
    entropy = torch.nn.functional.cross_entropy(logits, labels[:, 0].long())
    p = torch.softmax(logits, 1)
    g = torch.zeros_like(p).scatter_(1, labels.long(), 1)
    axes = (2, 3, 4)
    dice = (2 * (p * g).sum(axes) + 1e-5) / (p.sum(axes) + g.sum(axes) + 1e-5).clip(1e-8)
    return entropy - dice[:, 1:].mean()


def times(run):
    run()
    measured = []
    for _ in range(STEPS):
        start = time.perf_counter()
        run()
        measured.append(time.perf_counter() - start)
    return sorted(measured)


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    torch.manual_seed(0)
    net = network()
    print(sum(p.numel() for p in net.parameters()), "parameters")
    sgd = torch.optim.SGD(net.parameters(), 0.01, 0.99, weight_decay=3e-5, nesterov=True)
    image = torch.randn(1, 1, EDGE, EDGE, EDGE)
    labels = torch.randint(0, CLASSES, image.shape).float()

    def step():
        sgd.zero_grad()
        heads = zip(HEAD_WEIGHTS, net(image))
        loss = sum(w * dice_ce(logits, labels) for w, logits in heads if w)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
        sgd.step()
        return loss.item()

    def infer():
        with torch.no_grad():
            return net(image)

    for name, run in ("training", step), ("inference", infer):
        measured = times(run)
        print(f"{name}: best {measured[0]:.3f} s, median {measured[STEPS // 2]:.3f} s")
        if name == "training":
            net.eval()
            net.decoder.deep_supervision = False


if __name__ == "__main__":
    main()
