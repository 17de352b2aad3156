"""What low-rank adapters take of the memory of full fine-tuning: counted, and as the process grows.

    python benchmarks/lora_memory.py > benchmarks/lora_memory.txt      # 3 minutes of one CPU core

Networks are those that `lora` and `finetune` train, with random weights and a head of seven
classes, at the larger rank that `lora` tries. State: bytes of the weights, their gradients and the
optimiser's moments after one step, summed over the tensors. Saved: bytes that the forward pass keeps
for the backward one beside the weights, each storage once; for one image (the difference of a batch
of two and of one), times the recipe's batch. Both are exact and of fp32. Peak: growth of the
process's resident memory over three steps of the recipe's batch, from before the network is built,
each in a process of its own (Linux); it holds what the allocator and the products need besides.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from medbench.models.finetune import MODERN, FineTuneRecipe
from medbench.protocols.lora import RECIPE

RECIPES = {"finetune": MODERN, "lora": RECIPE}
#: network, size; the first two are small enough for steps of a whole batch on a CPU
NETWORKS = (
    ("test_vit", 64),
    ("vit_tiny_patch16_224", 64),
    ("vit_small_patch16_224", 224),
    ("vit_base_patch16_224", 224),
    ("resnet50", 224),
)
STEPPED = 2
CLASSES, MB = 7, 2**20


def trained(name: str, size: int, recipe: FineTuneRecipe):
    """(network with its head, ready to train, the rank of its adapters)."""
    import timm
    from torch import nn

    from medbench.models.finetune import adapters, network

    more = {"img_size": size} if "vit" in name else {}
    encoder = timm.create_model(name, num_classes=0, **more)
    net = network.Net(encoder, nn.Linear(encoder.num_features, CLASSES))
    rank = 0
    if recipe.adapters:
        rank = adapters.allowed_ranks(net.encoder, net.head, recipe.adapters)[-1]
        adapters.with_adapters(net.encoder, rank)
    network.train_mode(net, recipe)
    return net, rank


def tensors(net, optimiser) -> Iterator:
    """Weights, gradients and what the optimiser keeps of each."""
    for weight in net.parameters():
        yield weight
        if weight.grad is not None:
            yield weight.grad
        yield from (one for one in optimiser.state.get(weight, {}).values() if one.ndim)


def saved(net, images) -> int:
    """Bytes that a forward pass keeps for the backward one, beside weights and buffers."""
    import torch

    own = {one.untyped_storage().data_ptr() for one in (*net.parameters(), *net.buffers())}
    kept: dict[int, int] = {}
    held = []  # else a storage that is freed gives its place to another

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(images)
    return sum(kept.values())


def counted(name: str, size: int, recipe: FineTuneRecipe) -> dict[str, float]:
    import torch

    from medbench.models.finetune.network import optimiser_of

    net, rank = trained(name, size, recipe)
    learn = [weight for weight in net.parameters() if weight.requires_grad]
    optimiser = optimiser_of(net, recipe, recipe.rates[0])
    images = torch.randn(2, 3, size, size)
    of_two, of_one = saved(net, images), saved(net, images[:1])
    net(images).sum().backward()
    optimiser.step()
    return {
        "rank": rank,
        "share": sum(one.numel() for one in learn) / sum(one.numel() for one in net.parameters()),
        "state": sum(one.nbytes for one in tensors(net, optimiser)) / MB,
        "saved": (of_two - of_one) * recipe.batch / MB,
    }


def resident(line: str) -> float:
    """MB, of this process: VmRSS is what it has, VmHWM the most that it has had."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{line}:")[1].split()[0]) * 1024 / MB


def peak(name: str, size: int, recipe: FineTuneRecipe) -> float:
    import torch

    from medbench.models.finetune.network import optimiser_of

    step(*trained("test_vit", 64, recipe)[:1], 64, recipe, 1, optimiser_of)  # imports
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    net, _ = trained(name, size, recipe)
    torch.manual_seed(0)
    step(net, size, recipe, 3, optimiser_of)
    return resident("VmHWM") - before


def step(net, size, recipe, steps, optimiser_of) -> None:
    import torch

    optimiser = optimiser_of(net, recipe, recipe.rates[0])
    for _ in range(steps):
        images, labels = torch.randn(recipe.batch, 3, size, size), torch.arange(recipe.batch) % 7
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def alone(*asked: str) -> float:
    """What `peak` says in a process of its own."""
    said = subprocess.run([sys.executable, __file__, *asked], capture_output=True, text=True)
    if said.returncode:
        raise SystemExit(said.stderr)
    return float(json.loads(said.stdout))


def main() -> None:
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("peak", nargs="*", help="network, size and protocol: print its peak alone")
    asked = parser.parse_args().peak
    if asked:
        print(json.dumps(peak(asked[0], int(asked[1]), RECIPES[asked[2]])))
        return
    memory = ("state", "saved of a batch of 32", "peak of the process")
    columns = " | ".join(f"{name}, MB: full, `lora`" for name in memory)
    print(f"| network, pixels | rank | trained | `lora` / full, state | {columns} |")
    print("|---|---|---|---|---|---|---|")
    for i, (name, size) in enumerate(NETWORKS):
        full, few = (counted(name, size, RECIPES[protocol]) for protocol in ("finetune", "lora"))
        peaks = "not measured"
        if i < STEPPED:
            peaks = ", ".join(f"{alone(name, str(size), protocol):.0f}" for protocol in RECIPES)
        print(
            f"| `{name}`, {size} | {few['rank']:.0f} | {100 * few['share']:.1f} % | {few['state'] / full['state']:.2f} "
            f"| {full['state']:.1f}, {few['state']:.1f} | {full['saved']:.0f}, {few['saved']:.0f} | {peaks} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
