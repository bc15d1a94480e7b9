"""Forward passes that record layer outputs. This is the only module that registers hooks."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from iscam.errors import DEVICE_ERRORS, InputError, is_out_of_memory
from iscam.layouts import Reading


@contextmanager
def model_errors(images: Tensor) -> Iterator[None]:
    """Re-raise an error of the model as `InputError`, and a failed allocation as `torch.OutOfMemoryError`."""
    try:
        yield
    except InputError:
        raise
    except DEVICE_ERRORS:
        raise
    except Exception as error:  # a model may raise anything
        reason = " ".join(str(error).split())
        if is_out_of_memory(error):
            raise torch.OutOfMemoryError(reason) from error
        kind = "" if isinstance(error, RuntimeError | ValueError | AssertionError) else f"{type(error).__name__}: "
        raise InputError(
            f"the model fails on images (batch, channels, height, width) = {tuple(images.shape)}: {kind}{reason}"
        ) from error


@dataclass
class Mode:
    """The mode of a module before it was switched to evaluation, and the number of `eval_mode` blocks that use it."""

    training: bool
    users: int = 0


modes: dict[nn.Module, Mode] = {}  # the modules that are currently inside an `eval_mode` block
modes_lock = threading.Lock()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch the model to evaluation mode inside the block.

    If several blocks, in any threads, use a module, the last block that ends restores the module's original mode.
    """
    modules = [*model.modules()]
    with modes_lock:
        for module in modules:
            modes.setdefault(module, Mode(module.training)).users += 1
    try:
        if any(module.training for module in modules):
            set_eval(model)
        yield
    finally:
        with modes_lock:
            for module in modules:
                modes[module].users -= 1
                if modes[module].users == 0:
                    module.training = modes.pop(module).training


def set_eval(model: nn.Module) -> None:
    try:
        model.eval()
    except NotImplementedError as error:
        raise InputError(f"an exported model has no evaluation mode; pass the original model ({error})") from error


@contextmanager
def grad_enabled() -> Iterator[None]:
    """Enable gradients inside the block, regardless of the caller's mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def no_autocast(images: Tensor) -> AbstractContextManager:
    """Return a context that uses the model's own precision, even inside a `torch.autocast` of the caller."""
    return torch.autocast(images.device.type, enabled=False)


functional_lock = threading.Lock()  # `functional_call` changes the model while it runs


def call_model(model: nn.Module, images: Tensor) -> Any:
    """Return the output of the model for a copy of the images, because the model may overwrite its input.

    Autograd rejects tensors that were created in `torch.inference_mode`, so the call uses copies of such weights. For a
    model from `torch.compile`, the original model runs, because hooks would make torch compile it again.
    """
    model = getattr(model, "_orig_mod", model)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    normal = {name: tensor.clone() for name, tensor in tensors if tensor.is_inference()}
    if not normal:  # some models, such as nn.DataParallel, do not work with functional_call
        with no_autocast(images):
            return model(images.clone())
    with functional_lock, no_autocast(images):
        return torch.func.functional_call(model, normal, (images.clone(),))


@dataclass
class Recording:
    """The maps A (K, h, w) of each image, the layer's first output, and the number of times that the layer ran."""

    activations: list[Tensor] = field(default_factory=list)
    output: Tensor | None = None
    runs: int = 0


@contextmanager
def recording(model: nn.Module, layer: str, read: Callable[[Any], Reading]) -> Iterator[Recording]:
    """Record the output of a layer during a forward pass inside the block, in evaluation mode.

    `read(output)` describes how the output stores maps. The maps A of each image are a leaf of autograd's graph, so
    gradients of the logits with respect to A do not change the model's parameters. Behind the layer, gradients are
    enabled, so the block can run the part in front of the layer without a graph, which takes much less memory. If the
    layer runs several times, the last output is recorded. Calls from other threads are ignored. When the block ends,
    even with an error, the hook is removed and the modes are restored.
    """
    recorded, thread = Recording(), threading.get_ident()

    def keep(module: nn.Module, args: Any, output: Any) -> Tensor | None:
        if threading.get_ident() != thread:
            return None
        reading = read(output)
        maps = reading.to_maps(output)
        recorded.runs += 1
        if recorded.runs == 1:
            recorded.output = output
        torch.set_grad_enabled(True)
        recorded.activations = [each.detach().requires_grad_() for each in maps]
        # `stack` makes a copy, so an in-place ReLU after the layer does not change A.
        return reading.to_output(torch.stack(recorded.activations), output)

    same_gradients = torch.set_grad_enabled(torch.is_grad_enabled())  # restores the mode, which the hook changes
    with hook_on(model, layer, keep), eval_mode(model), same_gradients:
        yield recorded


@contextmanager
def replacing(
    model: nn.Module, layer: str, read: Callable[[Any], Reading], activations: Tensor, run: int
) -> Iterator[None]:
    """Replace the output of a layer with `activations` (batch, K, h, w) during one forward pass inside the block.

    If the layer runs several times, only the output of its `run`-th run is replaced. `run` starts at 1.
    """
    runs, thread = itertools.count(1), threading.get_ident()

    def swap(module: nn.Module, args: Any, output: Any) -> Tensor | None:
        if threading.get_ident() != thread or next(runs) != run:
            return None
        return read(output).to_output(activations, output)

    with hook_on(model, layer, swap), eval_mode(model):
        yield


@contextmanager
def hook_on(model: nn.Module, layer: str, function: Callable[..., Any]) -> Iterator[None]:
    module = model.get_submodule(layer)
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(
            f"layer {layer!r} is scripted or traced, so its output cannot be recorded; use the original module"
        )
    hook = module.register_forward_hook(function)
    try:
        yield
    finally:
        hook.remove()


@dataclass
class Call:
    """One call of a module during a traced forward pass."""

    name: str
    module: nn.Module
    argument: Any  # the first positional argument
    output: Any
    unchanged: bool  # the output equals the argument


@contextmanager
def traced(model: nn.Module) -> Iterator[list[Call]]:
    """Yield a list to which forward passes inside the block append the calls of all submodules, as each call finishes.

    Scripted modules are left out, because they do not accept hooks.
    """
    calls: list[Call] = []
    versions: list[int | None] = []
    thread = threading.get_ident()

    def before(module: nn.Module, args: Any) -> None:
        if threading.get_ident() == thread:
            versions.append(version(args[0] if args else None))

    def after(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            argument = args[0] if args else None
            calls.append(Call(name, module, argument, output, is_unchanged(argument, versions.pop(), output)))

    hooks = []
    try:
        for name, module in model.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):
                hooks.append(module.register_forward_pre_hook(before))
                hooks.append(module.register_forward_hook(lambda *call, name=name: after(name, *call)))
        with eval_mode(model):
            yield calls
    finally:
        for hook in hooks:
            hook.remove()


def version(x: Any) -> int | None:
    """Return the number of in-place changes of the tensor, or None if torch does not count them."""
    with suppress(RuntimeError, AttributeError):
        return int(x._version)
    return None


def is_unchanged(argument: Any, version_before: int | None, output: Any) -> bool:
    """Return True if a module returned its argument, or a copy of it, and did not change the argument in place."""
    if not isinstance(argument, Tensor) or not isinstance(output, Tensor):
        return False
    if version(argument) != version_before:
        return False
    return argument is output or (argument.shape == output.shape and torch.equal(argument, output))


def depends_on(output: Tensor, images: Tensor) -> bool:
    """Return True if autograd's graph leads from the output to the images, a leaf that requires gradients."""
    seen: set[Any] = set()
    nodes: list[Any] = [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            if getattr(node, "variable", None) is images:
                return True
            seen.add(node)
            nodes += [following for following, _ in node.next_functions]
    return False


def checked_gradient(logits: Tensor, source: Tensor) -> Tensor:
    """Return the logits, which are computed from `source`, a leaf of autograd's graph.

    Raises InputError if the graph does not lead from the logits to `source`.
    """
    if not depends_on(logits, source):
        raise InputError(
            "the logits carry no gradient to the image: the model turns gradients off, or an operation on the image is "
            "not differentiable; use a score method (score_cam, ss_cam, is_cam) or rise"
        )
    return logits


def is_constant(model: nn.Module, layer: str, images: Tensor) -> bool:
    """Return True if a layer returns the same output for the images and for different images."""
    outputs: list[Any] = []
    with hook_on(model, layer, recorder(outputs)), eval_mode(model), torch.no_grad():
        call_model(model, images)
        call_model(model, 1 - images.flip(-1))
    first, last = outputs[0], outputs[-1]
    return isinstance(first, Tensor) and isinstance(last, Tensor) and torch.equal(first, last)


def recorder(outputs: list[Any]) -> Callable[..., None]:
    """Return a hook that appends copies of a module's outputs to `outputs`. Calls from other threads are ignored."""
    thread = threading.get_ident()

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            outputs.append(output.clone() if isinstance(output, Tensor) else output)

    return keep


def checked_finite(logits: Tensor) -> Tensor:
    """Return the logits.

    Raises InputError if a logit is NaN or infinite.
    """
    if not logits.isfinite().all():
        raise InputError("the model returned NaN or infinite logits; check its weights and the image's normalisation")
    return logits
