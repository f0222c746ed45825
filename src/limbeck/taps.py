"""Taps read a running model, by hooks that are installed once and inert unless it is recorded."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from limbeck.landmarks import resolve, unwrap
from limbeck.tap import Call, Tap, TapError, map_tensors, tensors_in


class Stop(Exception):  # noqa: N818 - not an error
    """Ends a forward pass whose taps have all fired."""


class _Reader:
    """Gathers what one tap catches in the current forward pass."""

    def __init__(self, tap: Tap, module: nn.Module) -> None:
        self.tap = tap
        self.module = module
        self.expected: int | None = None  # calls in a forward pass, learnt once
        self.copies = True  # until it is learnt that nothing overwrites the value in place
        self.reset()

    def reset(self) -> None:
        self.count = 0
        self.finished = False  # the outermost module that holds the tapped one has returned
        self.values: list[Any] = []
        self.sources: list[tuple[Tensor, int]] = []

    @property
    def complete(self) -> bool:
        """Whether no later call can matter."""
        calls = self.tap.calls
        if self.expected is not None:
            return self.count >= (self.expected if calls is None else calls % self.expected + 1)
        return self.finished or (calls is not None and 0 <= calls < self.count)

    def catch(self, value: Any) -> None:
        self.count += 1
        calls, expected = self.tap.calls, self.expected
        if expected is not None and calls is not None and self.count - 1 != calls % expected:
            return
        value = self.tap.pick(value)
        # Compiled code has no version counters: what is overwritten was learnt before.
        if (self.expected is None or not self.copies) and not torch.compiler.is_compiling():
            self.sources += [(t, t._version) for t in tensors_in(value) if not t.is_inference()]
        self.values.append(map_tensors(value, Tensor.clone) if self.copies else value)

    def overwritten(self) -> bool:
        return any(tensor._version != version for tensor, version in self.sources)

    def learn(self) -> None:
        # A dropout in place overwrites its input in training alone, and the dry pass evaluates.
        in_place = self.tap.side != "output" and getattr(self.module, "inplace", False)
        self.copies = in_place or self.overwritten()
        self.expected = self.count

    def result(self, stopped: bool) -> Any:
        if self.count == 0:
            raise TapError(
                f"Tap {self.tap} never fired: {type(self.module).__name__} at "
                f"{self.tap.path!r} was not called in this forward pass."
            )
        missing = 0 if self.expected is None else self.expected - self.count
        if missing < 0 or (missing and not stopped):
            raise TapError(
                f"Tap {self.tap} fired {self.count} times in this step and {self.expected} times "
                "when it was set up. Tap a module that every step calls equally often."
            )
        if not self.copies and self.overwritten():
            raise TapError(
                f"Tap {self.tap}: the value was overwritten in place after it was read, which it "
                "was not when the tap was set up. Make the later operation out of place."
            )
        if self.tap.calls is None:
            return self.values
        if self.expected is not None:
            return self.values[0]
        return self._chosen(self.tap.calls)

    def _chosen(self, index: int) -> Any:
        if not -len(self.values) <= index < len(self.values):
            raise TapError(f"Tap {self.tap}: the module was called {len(self.values)} times.")
        return self.values[index]


class Taps:
    """Reads named places of a model while it runs.

    In a ``with`` block it leaves nothing behind, even after an exception. As
    :class:`limbeck.Distillation` uses it, it is installed once (before anything is compiled) and
    read through :meth:`read`, step after step.

    Args:
        model: Any module; DDP and DataParallel wrappers are looked through.
        taps: Landmarks, paths or :class:`Tap`, by the name under which each value is wanted. The
            strings of a sequence are the names themselves.
        stop_early: End the forward pass as soon as the last tap has fired: after the calls that
            :meth:`learn` counted. In a ``with`` block, where nothing has been counted, it ends when
            the outermost modules that hold the tapped ones have returned once (with ``[*]``:
            never), and the block ends there too.

    Raises:
        TapError: A path does not exist (the nearest ones are named), a tap caught nothing, or the
            model was compiled before the taps were installed.

    Example:
        >>> import torch
        >>> from torchvision.models.resnet import BasicBlock, ResNet
        >>> from limbeck import Taps
        >>> model = ResNet(BasicBlock, [1, 1, 1, 1])
        >>> with Taps(model, ["C4.pre", "layer2.0.conv1"], stop_early=True) as seen:
        ...     logits = model(torch.rand(2, 3, 64, 64))
        >>> seen["C4.pre"].shape
        torch.Size([2, 256, 4, 4])
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Mapping[str, Tap | str] | Sequence[str],
        *,
        stop_early: bool = False,
    ) -> None:
        self.model = unwrap(model)
        named = taps if isinstance(taps, Mapping) else {name: name for name in taps}
        self.taps = {name: resolve(self.model, tap) for name, tap in named.items()}
        self._stop_early = stop_early
        self._recording = False
        self._handles: list[RemovableHandle] = []
        self._readers = {tap: _Reader(tap, self._module(tap)) for tap in self.taps.values()}
        self._refuse_compiled(model)
        for reader in self._readers.values():
            self._install(reader)

    def _module(self, tap: Tap) -> nn.Module:
        try:
            return self.model.get_submodule(tap.path)
        except AttributeError:
            paths = [path for path, _ in self.model.named_modules()]
            near = difflib.get_close_matches(tap.path, paths, n=3, cutoff=0.3)
            raise TapError(
                f"{type(self.model).__name__} has no module {tap.path!r}. "
                f"Nearest: {', '.join(near) or 'none'}. `limbeck inspect` lists all of them."
            ) from None

    def _refuse_compiled(self, model: nn.Module) -> None:
        """Refuse compiled modules, where hooks that are added may be skipped silently."""
        advice = "Pass the plain module and compile it afterwards, with its .compile()."
        if model is not self.model and type(model).__name__ == "OptimizedModule":
            raise TapError(f"{type(self.model).__name__} is wrapped by torch.compile. {advice}")
        for tap in self.taps.values():
            parts = tap.path.split(".")
            for depth in range(len(parts) + 1):
                path = ".".join(parts[:depth])
                module = self.model.get_submodule(path)
                if module._compiled_call_impl is not None or unwrap(module) is not module:
                    raise TapError(
                        f"Tap {tap}: module {path or '<model>'!r} is compiled already. {advice}"
                    )

    def _install(self, reader: _Reader) -> None:
        # Bound methods, not closures, so that a Distillation can be copied and pickled.
        if reader.tap.side == "input":
            hook = reader.module.register_forward_pre_hook(
                partial(self._before, reader), with_kwargs=True
            )
        else:
            hook = reader.module.register_forward_hook(partial(self._after, reader))
        self._handles.append(hook)

    def _before(
        self, reader: _Reader, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        if self._recording:
            given = args or tuple(named.values())  # transformers names all arguments
            reader.catch(given[0] if len(given) == 1 else given)
            self._stop_if_complete()

    def _after(
        self, reader: _Reader, module: nn.Module, args: tuple[Any, ...], output: Any
    ) -> None:
        if self._recording:
            reader.catch(Call(module, args, output) if reader.tap.side == "call" else output)
            self._stop_if_complete()

    def _stop_if_complete(self) -> None:
        if self._stop_early and all(reader.complete for reader in self._readers.values()):
            raise Stop

    def learn(self, forward: Callable[[], Any]) -> dict[str, Any]:
        """Run one whole forward pass, and learn how often each tap fires and what is overwritten.

        Args:
            forward: Runs the model once.

        Returns:
            Copies of the values by name.
        """
        for reader in self._readers.values():
            reader.expected, reader.copies = None, True
        stop_early, self._stop_early = self._stop_early, False
        try:
            self._record(forward)
            values = self._values(stopped=False)
            for reader in self._readers.values():
                reader.learn()
        finally:
            self._stop_early = stop_early
            self._forget()
        return values

    def read(
        self, forward: Callable[[], Any], *, stop_early: bool | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Run the model and read the taps.

        Args:
            forward: Runs the model once.
            stop_early: Whether to end this forward pass as soon as the last tap has fired. Default
                (None): as at construction.

        Returns:
            What ``forward`` returned (None when it was stopped early), and the values by name.

        Raises:
            TapError: A tap did not fire as often as :meth:`learn` counted, or its value was
                overwritten after it was read.
        """
        usual = self._stop_early
        try:
            self._stop_early = usual if stop_early is None else stop_early
            output, stopped = self._record(forward)
            return output, self._values(stopped)
        finally:
            self._stop_early = usual
            self._forget()

    def _record(self, forward: Callable[[], Any]) -> tuple[Any, bool]:
        self._recording = True
        try:
            return forward(), False
        except Stop:
            return None, True
        finally:
            self._recording = False

    def _values(self, stopped: bool) -> dict[str, Any]:
        results = {tap: reader.result(stopped) for tap, reader in self._readers.items()}
        return {name: results[tap] for name, tap in self.taps.items()}

    def _forget(self) -> None:
        for reader in self._readers.values():
            reader.reset()

    def close(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self) -> dict[str, Any]:
        if self._stop_early:
            for reader in self._readers.values():
                self._finish_with_owner(reader)
        self._seen: dict[str, Any] = {}
        self._recording = True
        return self._seen

    def _finish_with_owner(self, reader: _Reader) -> None:
        """Take the last call for the last when the outermost module around it has returned."""
        if reader.tap.calls is None or reader.tap.calls >= 0:
            return
        owner = self.model.get_submodule(reader.tap.path.partition(".")[0])
        # A module without parameters may be shared by the whole network, as an activation is.
        if next(owner.parameters(), None) is None:
            owner = self.model
        self._handles.append(owner.register_forward_hook(partial(self._finish, reader)))

    def _finish(self, reader: _Reader, *_: Any) -> None:
        if self._recording and reader.count:
            reader.finished = True
            self._stop_if_complete()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._recording = False
        self.close()
        stopped = isinstance(error, Stop)
        try:
            if error is None or stopped:
                self._seen.update(self._values(stopped))
        finally:
            self._forget()
        return stopped
