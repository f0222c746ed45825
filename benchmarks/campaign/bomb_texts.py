"""Recipes, configurations and annotations that unfold, and numbers that are absurd."""


def _aliases(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for i in range(1, levels):
        inner = ", ".join([f"*a{i - 1}"] * width)
        lines.append(f"a{i}: &a{i} [{inner}]")
    return (
        "\n".join(
            [*lines, f"model: {{student: *a{levels - 1}}}", "MODEL: {META_ARCHITECTURE: RetinaNet}"]
        )
        + "\n"
    )


def _merges(levels: int) -> str:
    keys = ", ".join(f"k{i}: {i}" for i in range(100))
    lines = [f"m0: &m0 {{{keys}}}"]
    for i in range(1, levels):
        inner = ", ".join([f"*m{i - 1}"] * 10)
        lines.append(f"m{i}: &m{i} {{<<: [{inner}]}}")
    return (
        "\n".join(
            [*lines, f"model: {{student: *m{levels - 1}}}", "MODEL: {META_ARCHITECTURE: RetinaNet}"]
        )
        + "\n"
    )


YAML = {
    "aliases of aliases": _aliases(10, 10),
    "aliases of aliases of aliases": _aliases(30, 10),
    "merges of merges": _merges(8),
    "an alias of itself": "model: &a {student: *a}\nMODEL: *a\n",
    "a list of itself": "model: &a [*a]\nMODEL: *a\n",
    "deep lists": "model: " + "[" * 20_000 + "\n",
    "a deep mapping": "model: " + "{a: " * 5000 + "1" + "}" * 5000 + "\n",
    "a million keys": "".join(f"k{i}: {i}\n" for i in range(1_000_000)),
    "a number of a million digits": "model: {student: "
    + "9" * 1_000_000
    + "}\nMODEL: {A: "
    + "9" * 1_000_000
    + "}\n",
    "a sexagesimal number": "model: {student: " + ":".join(["59"] * 20_000) + "}\n",
    "a Python object": "model: !!python/object/apply:os.system ['touch canary']\nMODEL: 1\n",
    "a Python name": "model: {student: !!python/name:os.system }\nMODEL: 1\n",
    "a NUL": "model: {student: \0}\n",
    "binary": "\x01\x02\x03\x04",
    "tabs": "model:\n\tstudent: 1\n",
    "a text": "just a text\n",
    "a number": "3\n",
    "null": "null\n",
    "a list": "- a\n- b\n",
    "two documents": "model: 1\n---\nmodel: 2\n",
    "keys of lists": "? [a, b]\n: 1\n",
    "keys of numbers": "1: 2\nmodel: {3: 4}\n",
    "the same key twice": "model: 1\nmodel: 2\nMODEL: 1\n",
}

PYTHON = {
    "nested additions": "model = " + "(" * 50_000 + "1" + ")" * 50_000 + "\n",
    "an import": "import os\nos.system('touch canary')\nmodel = dict(type='RetinaNet')\n",
    "a call": "model = dict(type=__import__('os').system('touch canary'))\n",
    "a power": "model = dict(type='RetinaNet', x=9**9**9**9)\n",
    "a repetition": "model = dict(type='RetinaNet', x='a' * 10**12)\n",
    "a comprehension": "model = dict(type='RetinaNet', x=[i for i in range(10**12)])\n",
    "deep lists": "model = " + "[" * 5000 + "]" * 5000 + "\n",
    "a million keys": "model = dict(" + ", ".join(f"k{i}={i}" for i in range(300_000)) + ")\n",
    "an f-string": "model = dict(type=f'{9**9**9}')\n",
    "a base": "_base_ = ['../../../bait.py']\nmodel = dict(type='RetinaNet')\n",
    "a lambda": "model = (lambda f: f(f))(lambda f: f(f))\n",
    "absurd numbers": "model = dict(type='RetinaNet', neck=dict(num_outs=10**18))\n",
    "a NUL": "model = dict(type='\0')\n",
}

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY l0 "lol">'
    + "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    + "]><annotation><object><name>&l9;</name></object></annotation>"
)

EXTERNAL = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    "<annotation><object><name>&e;</name></object></annotation>"
)

ABSURD: tuple[tuple[str, object], ...] = (
    ("data.batch_size", 10**12),
    ("model.student.init_args.fpn_channels", 10**6),
    ("model.student.init_args.fpn_channels", 10**12),
    ("model.student.init_args.head_depth", 10**6),
    ("model.student.init_args.num_classes", 10**9),
    ("model.student.init_args.min_size", 10**6),
    ("model.student.init_args.max_size", 10**15),
    ("model.student.init_args.levels", "[3,1000]"),
    ("model.student.init_args.levels", "[3,1000000000]"),
    ("model.student.init_args.backbone", "{depths: [1000000,1,1], widths: [8,8,16]}"),
    ("model.student.init_args.backbone", "{depths: [1,1,1], widths: [8,8,100000000]}"),
    ("model.student.init_args.aspect_ratios", "[1e300]"),
    ("model.student.init_args.anchor_sizes", "[[1e300,20],[28,40]]"),
    ("seed_everything", 10**30),
    (
        "data.augmentation",
        "{class_path: limbeck.data.DetectionAugmentation, "
        "init_args: {short_sides: [1000000], long_side: 1000000}}",
    ),
)
