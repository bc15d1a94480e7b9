"""Forward passes with recorded layer outputs. This is the only file with hooks."""

from __future__ import annotations

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
    """A module's mode before it was switched to evaluation, and how many `eval_mode` blocks use the module."""

    training: bool
    users: int = 0


modes: dict[nn.Module, Mode] = {}  # the modules inside an `eval_mode` block now
modes_lock = threading.Lock()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode. The last block to end, in any thread, restores each module's own mode."""
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
        raise InputError(f"an exported model has no evaluation mode: pass the original model ({error})") from error


@contextmanager
def grad_enabled() -> Iterator[None]:
    """Enable gradients, whatever the caller's mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def no_autocast(images: Tensor) -> AbstractContextManager:
    """Use the model's own precision, even inside the caller's `torch.autocast`."""
    return torch.autocast(images.device.type, enabled=False)


functional_lock = threading.Lock()  # `functional_call` changes the model while it runs


def call_model(model: nn.Module, images: Tensor) -> Any:
    """The output of the model for a copy of the images, because the model may overwrite its input.

    Autograd refuses tensors that were created in `torch.inference_mode`, so the call uses copies of them. The copy that
    `torch.compile` made is left out: hooks would compile it anew.
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
    """The maps A (K, h, w) of each image, the layer's first output, and how often the layer ran."""

    activations: list[Tensor] = field(default_factory=list)
    output: Tensor | None = None
    runs: int = 0


@contextmanager
def recording(model: nn.Module, layer: str, read: Callable[[Any], Reading]) -> Iterator[Recording]:
    """Record the output of a layer during a forward pass inside the block, in evaluation mode.

    `read(output)` says how the output holds maps. Each image's A is a leaf of autograd, so gradients of the
    logits with respect to it do not touch the model's parameters. If the layer runs several times, the last output
    counts. Calls from other threads are ignored. The hook is removed and the mode restored after any error.
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
        recorded.activations = [each.detach().requires_grad_(torch.is_grad_enabled()) for each in maps]
        # A copy, so that an in-place ReLU behind the layer leaves A as it was.
        return reading.to_output(torch.stack(recorded.activations), output)

    with hook_on(model, layer, keep), eval_mode(model):
        yield recorded


@contextmanager
def replacing(model: nn.Module, layer: str, read: Callable[[Any], Reading], activations: Tensor) -> Iterator[None]:
    """Replace the output of a layer by activations (batch, K, h, w) during forward passes inside the block."""
    thread = threading.get_ident()

    def swap(module: nn.Module, args: Any, output: Any) -> Tensor | None:
        return read(output).to_output(activations, output) if threading.get_ident() == thread else None

    with hook_on(model, layer, swap), eval_mode(model):
        yield


@contextmanager
def hook_on(model: nn.Module, layer: str, function: Callable[..., Any]) -> Iterator[None]:
    module = model.get_submodule(layer)
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(f"layer {layer!r} is scripted or traced, so its output cannot be recorded: use the original")
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
    argument: Any  # the first one
    output: Any
    unchanged: bool  # the output equals the argument


@contextmanager
def traced(model: nn.Module) -> Iterator[list[Call]]:
    """A list that forward passes inside the block fill with the calls of all submodules, in the order they finish.

    Scripted modules are left out, because they take no hooks.
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
    """How often the tensor was changed in place, if torch counts it."""
    with suppress(RuntimeError, AttributeError):
        return int(x._version)
    return None


def is_unchanged(argument: Any, version_before: int | None, output: Any) -> bool:
    """Return True if a module returned its argument, or a copy of it, and changed nothing in place."""
    if not isinstance(argument, Tensor) or not isinstance(output, Tensor):
        return False
    if version(argument) != version_before:
        return False
    return argument is output or (argument.shape == output.shape and torch.equal(argument, output))


def depends_on(output: Tensor, images: Tensor) -> bool:
    """True if autograd's graph leads from the output to the images, which require gradients."""
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


def is_constant(model: nn.Module, layer: str, images: Tensor) -> bool:
    """True if a layer returns the same for the images and for others."""
    outputs: list[Any] = []
    with hook_on(model, layer, recorder(outputs)), eval_mode(model), torch.no_grad():
        call_model(model, images)
        call_model(model, 1 - images.flip(-1))
    first, last = outputs[0], outputs[-1]
    return isinstance(first, Tensor) and isinstance(last, Tensor) and torch.equal(first, last)


def recorder(outputs: list[Any]) -> Callable[..., None]:
    """A hook that appends copies of the outputs of calls from this thread."""
    thread = threading.get_ident()

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            outputs.append(output.clone() if isinstance(output, Tensor) else output)

    return keep


def checked_finite(logits: Tensor) -> Tensor:
    """Return the logits. Raises InputError if any is NaN or infinite."""
    if not logits.isfinite().all():
        raise InputError("the model returned NaN or infinite logits: check its weights and the image's normalisation")
    return logits
