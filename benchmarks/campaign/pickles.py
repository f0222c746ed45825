"""Pickles by hand: programs that name functions, in every file that holds a pickle."""

import io
import pickle
import zipfile
from pathlib import Path

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save's before 1.6

# What runs something, by module, name and argument: {canary} is a file that must not appear.
FUNCTIONS: tuple[tuple[str, str, str], ...] = (
    ("os", "system", "touch {canary}"),
    ("posix", "system", "touch {canary}"),
    ("nt", "system", "touch {canary}"),
    ("os", "popen", "touch {canary}"),
    ("subprocess", "getoutput", "touch {canary}"),
    ("commands", "getoutput", "touch {canary}"),
    ("builtins", "eval", "open({canary!r}, 'w')"),
    ("builtins", "exec", "open({canary!r}, 'w')"),
    ("__builtin__", "eval", "open({canary!r}, 'w')"),
    ("builtins", "__import__", "antigravity"),
    ("importlib", "import_module", "this"),
    ("runpy", "run_path", "{script}"),
    ("timeit", "timeit", "open({canary!r}, 'w')"),
    ("cProfile", "run", "open({canary!r}, 'w')"),
    ("code", "InteractiveInterpreter", "{canary}"),
    ("os", "mkdir", "{canary}"),
    ("os", "remove", "{bait}"),
    ("os", "unlink", "{bait}"),
    ("shutil", "rmtree", "{bait}"),
    ("io", "open", "{bait}"),
    ("builtins", "open", "{bait}"),
    ("torch", "load", "{bait}"),
    ("torch.hub", "load", "{bait}"),
    ("torch.jit", "load", "{bait}"),
    ("torch.serialization", "load", "{bait}"),
    ("torch.hub", "load_state_dict_from_url", "http://bait.example/weights.pth"),
    ("numpy", "load", "{bait}"),
    ("numpy", "fromfile", "{bait}"),
    ("ctypes", "CDLL", "{bait}"),
    ("webbrowser", "open", "http://bait.example/"),
    ("urllib.request", "urlopen", "http://bait.example/"),
    ("limbeck.cli", "main", "{bait}"),
    ("limbeck.models", "load_student", "{bait}"),
    ("limbeck.models.loading", "load_student", "{bait}"),
    ("timm", "create_model", "hf-hub:bait/model"),
    ("torch.storage", "_load_from_bytes", "{bait}"),
    ("torch._utils", "_rebuild_tensor_v2", "{bait}"),
    ("pickle", "loads", "{bait}"),
    ("argparse", "Namespace.__init__.__globals__", "{bait}"),
    ("pathlib", "Path", "{bait}"),
)


def text(value: str) -> bytes:
    """A text on the stack."""
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


def by_global(module: str, name: str, argument: str) -> bytes:
    """Protocol 2's GLOBAL and REDUCE."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + text(argument) + b"\x85R."


def by_stack_global(module: str, name: str, argument: str) -> bytes:
    """Protocol 4's STACK_GLOBAL, within a state dict."""
    call = text(module) + text(name) + b"\x93" + text(argument) + b"\x85R"
    return b"\x80\x04}" + text("layer.weight") + call + b"s."


def by_inst(module: str, name: str, argument: str) -> bytes:
    """Protocol 0's INST."""
    return b"(" + text(argument) + b"i" + f"{module}\n{name}\n".encode() + b"."


def by_build(module: str, name: str, argument: str) -> bytes:
    """An object whose state is set by a function: NEWOBJ and BUILD."""
    made = b"\x80\x02cargparse\nNamespace\n)\x81"
    return (
        made
        + b"}"
        + text("__setstate__")
        + b"c"
        + f"{module}\n{name}\n".encode()
        + b"sb"
        + text(argument)
        + b"b."
    )


WAYS = {"GLOBAL": by_global, "STACK_GLOBAL": by_stack_global, "INST": by_inst, "BUILD": by_build}


def in_zip(program: bytes, path: Path, **records: bytes) -> Path:
    """As torch.save writes since 1.6."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", b"3\n")
        for name, content in records.items():
            archive.writestr(f"archive/data/{name}", content)
    return path


def in_legacy(program: bytes, path: Path) -> Path:
    """As torch.save wrote before 1.6: the program stands where the object does."""
    head = MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    path.write_bytes(head + program + pickle.dumps([], 2))
    return path


def alone(program: bytes, path: Path) -> Path:
    """As Detectron2's."""
    path.write_bytes(program)
    return path


FILES = {"zip.pth": in_zip, "legacy.pth": in_legacy, "alone.pkl": alone}


def growing(times: int) -> bytes:
    """A few bytes of program for 2**times objects: tuples of themselves twice."""
    program = io.BytesIO()
    program.write(b"\x80\x02" + text("x" * 100))
    for _ in range(times):
        program.write(b"2\x86")  # DUP, TUPLE2
    program.write(b".")
    return program.getvalue()


def doubling(times: int) -> bytes:
    """A list that is extended by itself, whose length doubles."""
    program = io.BytesIO()
    program.write(b"\x80\x02](" + b"K\x01" * 1000 + b"e")
    program.write(b"q\x00")
    for _ in range(times):
        program.write(b"(" + b"h\x00" * 1000 + b"e")
    program.write(b".")
    return program.getvalue()


def memo(megabytes: int) -> bytes:
    """Empty dicts, one a byte and two for its place in a list: 8 MB become gigabytes."""
    return b"\x80\x02](" + b"}" * (megabytes << 20) + b"e."


def lists(megabytes: int) -> bytes:
    """The same of lists that are put into the memo."""
    return b"\x80\x04](" + b"]\x94" * (megabytes << 19) + b"e."


def sets(megabytes: int) -> bytes:
    """Empty sets, of 216 bytes each."""
    return b"\x80\x04](" + b"\x8f" * (megabytes << 20) + b"e."


def ordered(megabytes: int) -> bytes:
    """Objects of a type that every reader of weights takes, four bytes each."""
    named = b"ccollections\nOrderedDict\nq\x00"
    return b"\x80\x02" + named + b"0](" + b"h\x00)R" * (megabytes << 18) + b"e."
