"""Single operators in PyTorch, at the sizes of benches/peers/operators.rs."""

import torch
from torch.nn import functional as F


def overlap(p, labels):
    """The mean soft Dice of the classes but the background: p (N, C, D, H, W), labels (N, 1, D, H, W)."""
    g = torch.zeros_like(p).scatter_(1, labels, 1)
    axes = (2, 3, 4)
    dice = (2 * (p * g).sum(axes) + 1e-5) / (p.sum(axes) + g.sum(axes) + 1e-5).clip(1e-8)
    return dice[:, 1:].mean()


def dice_focal(logits, labels):
    log_p = torch.log_softmax(logits, 1)
    log_truth = log_p.gather(1, labels)
    focal = -((1 - log_truth.exp()) ** 2 * log_truth).mean()
    return focal - overlap(log_p.exp(), labels)


def norm_prelu(x, gamma, beta, slope):
    return F.prelu(F.instance_norm(x, weight=gamma, bias=beta, eps=1e-5), slope)


def case(name, device):
    """The operator and the tensors that it takes a gradient for."""
    draw = lambda *shape: torch.rand(shape, device=device) * 2 - 1
    cube = lambda channels, edge: draw(1, channels, edge, edge, edge)
    if name == "conv3":
        return lambda x, w, b: F.conv3d(x, w, b, padding=1), [cube(32, 64), draw(32, 32, 3, 3, 3), draw(32)]
    if name == "depthwise":
        operator = lambda x, w, b: F.conv3d(x, w, b, padding=1, groups=64)
        return operator, [cube(64, 48), draw(64, 1, 3, 3, 3), draw(64)]
    if name == "pointwise":
        return F.conv3d, [cube(64, 48), draw(64, 64, 1, 1, 1), draw(64)]
    if name == "transposed":
        operator = lambda x, w, b: F.conv_transpose3d(x, w, b, stride=2)
        return operator, [cube(64, 32), draw(64, 32, 2, 2, 2), draw(32)]
    if name == "norm":
        return norm_prelu, [cube(32, 64), draw(32), draw(32), draw(32)]
    if name == "loss":
        labels = torch.randint(0, 4, (1, 1, 64, 64, 64), device=device)
        return lambda x: dice_focal(x, labels), [cube(4, 64)]
    raise KeyError(name)


def forward(name, device):
    operator, inputs = case(name, device)

    def run():
        with torch.no_grad():
            return operator(*inputs)

    return run


def both(name, device):
    """Forward and the gradients of all inputs, from a given gradient of the result."""
    operator, inputs = case(name, device)
    for tensor in inputs:
        tensor.requires_grad_()
    upstream = torch.rand_like(operator(*inputs))

    def run():
        return torch.autograd.grad(operator(*inputs), inputs, upstream)

    return run
