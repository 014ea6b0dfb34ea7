"""Quantisation-aware networks for Concrete ML, by Brevitas. Training starts from the network of the ONNX
file, so the weights differ from the file's."""

import numpy as np
from onnx import numpy_helper

STEPS, BATCH, SEED, RATE = 3000, 64, 1, 1e-3


def retrained(model, bits, rows, labels):
    """A torch module with `bits` for weights, inputs and activations. Dense networks with ReLU only."""
    import brevitas.nn as quantised
    import torch
    from brevitas.quant.scaled_int import Int8ActPerTensorFloat, Int8WeightPerTensorFloat

    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    torch.manual_seed(SEED)
    layers = []
    for node in model.graph.node:
        if node.op_type == "Relu":
            layers.append(torch.nn.ReLU())
            continue
        if node.op_type != "Gemm":
            raise ValueError(f"no quantisation-aware {node.op_type} here")
        weight, bias = (torch.from_numpy(values[name].copy()) for name in node.input[1:])
        layers.append(
            quantised.QuantIdentity(bit_width=bits, return_quant_tensor=True, act_quant=Int8ActPerTensorFloat)
        )
        dense = quantised.QuantLinear(
            weight.shape[1],
            weight.shape[0],
            True,
            weight_bit_width=bits,
            weight_quant=Int8WeightPerTensorFloat,
        )
        with torch.no_grad():
            dense.weight.copy_(weight)
            dense.bias.copy_(bias)
        layers.append(dense)
    network = torch.nn.Sequential(*layers)
    x, y = torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(labels).long()
    epochs = -(-STEPS * BATCH // len(x))
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * -(-len(x) // BATCH))
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(network(x[part]), y[part], label_smoothing=0.02)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()
