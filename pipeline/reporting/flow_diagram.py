"""The data flow of a run as a drawing: what each stage took, changed, dropped and passed on."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.evaluation.metrics import METRIC_OF_KEY
from pipeline.reporting import formats
from pipeline.reporting.run_data import RunData
from pipeline.reporting.svg_axes import number, rect, svg, text

WIDTH = 1184.0
_NODE, _PITCH, _LINE, _HEAD = 170.0, 253.0, 16.0, 27.0
_MAX_REASONS = 4

TITLE = "Data flow through the stages"

Fact = tuple[str, str]
"""A style ("", "minus", "plus") and a line of text."""


@dataclass
class Node:
    """A stage's box. `middle` is the height of its main connections; a line of its facts has so many `characters`; it
    is `least` high."""

    name: str
    kind: str
    column: int
    facts: list[Fact] = field(default_factory=list)
    middle: float = 0.0
    width: float = _NODE
    characters: int = 24
    least: float = 0.0

    @property
    def height(self) -> float:
        return max(self.least, _HEAD + _LINE * len(self._lines()) + 7)

    def _lines(self) -> list[tuple[str, str, float]]:
        """Style, text and indentation of each line; a fact takes two at most."""
        lines = []
        for style, words in self.facts:
            wrapped = textwrap.wrap(words, self.characters, max_lines=2, placeholder="…")
            lines += [(style, part, 10.0 if place else 0.0) for place, part in enumerate(wrapped)]
        return lines

    @property
    def left(self) -> float:
        return self.column * _PITCH

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def top(self) -> float:
        return self.middle - self.height / 2

    @property
    def bottom(self) -> float:
        return self.middle + self.height / 2

    def draw(self) -> str:
        parts = [
            rect(self.left, self.top, self.width, self.height, f'rx="6" class="node {self.kind}"'),
            text(self.left + 11, self.top + 19, self.name, "stage"),
        ]
        for index, (style, words, indent) in enumerate(self._lines()):
            y = self.top + _HEAD + 11 + index * _LINE
            parts.append(text(self.left + 11 + indent, y, words, f"fact {style}".strip()))
        return "".join(parts)


@dataclass
class Flow:
    """What is drawn: the boxes of the stages that have a place in the drawing, and of those that have none; and what
    flows between them, "" where that is not known."""

    nodes: dict[str, Node]
    others: list[Node]
    passed_on: dict[str, tuple[str, str]]
    """Documents and bytes that a stage passes on for training."""
    held_out: str
    tested: str

    @property
    def differs(self) -> bool:
        """Whether something in it is not the same in both runs."""
        return any("differs" in node.kind for node in (*self.nodes.values(), *self.others))


def flow_of(runs: Sequence[RunData], names: Sequence[str]) -> Flow:
    """The flow of a run; of two what is the same in both is told once, and what differs by the names of the runs."""
    flows = [_flow_of_one(run) for run in runs]
    return flows[0] if len(flows) == 1 else _both(flows[0], flows[1], names)


def _flow_of_one(run: RunData) -> Flow:
    nodes, others = nodes_of(run)
    return Flow(nodes, others, passed_on(run), held_out_in_words(run), tested_in_words(run))


def _both(flow: Flow, other: Flow, names: Sequence[str]) -> Flow:
    """The first flow, with what the other has otherwise."""
    for name in flow.passed_on:
        if flow.passed_on[name] != other.passed_on[name]:
            for one in (flow, other):
                one.nodes[name].facts.append(("", "passes on " + ", ".join(filter(None, one.passed_on[name]))))
            flow.passed_on[name] = ("", "")
    if flow.held_out != other.held_out:
        for one in (flow, other):
            one.nodes["curate"].facts.append(("", one.held_out))
        flow.held_out = "validation, test"
    flow.tested = flow.tested if flow.tested == other.tested else "test"
    found = {node.name: node for node in flow.others}
    flow.others += [Node(node.name, node.kind, 0) for node in other.others if node.name not in found]
    facts = {node.name: node.facts for node in (*other.nodes.values(), *other.others)}
    for node in (*flow.nodes.values(), *flow.others):
        told = node.facts, facts.get(node.name, [])
        if told[0] != told[1]:
            node.kind += " differs"
            node.facts = [fact for fact in told[0] if fact in told[1]]
            for place, (name, own) in enumerate(zip(names, told, strict=True), 1):
                node.facts += [
                    (f"run{place}", f"{name}: {words}") for style, words in own if (style, words) not in node.facts
                ]
    return flow


def flow_diagram(flow: Flow) -> str:
    """The stages with the run's own counts. Those that have no place in the drawing stand below it."""
    nodes, others = flow.nodes, flow.others
    nodes["curate"].least, nodes["encode"].least = 80.0, 62.0
    first = [nodes[name] for name in ("ingest", "normalize", "curate", "augment", "encode")]
    augment, tokenizer, curate, encode = nodes["augment"], nodes["tokenizer"], nodes["curate"], nodes["encode"]
    half = max(node.height for node in first) / 2
    middle = max(half, augment.height / 2 + 48) + 6
    for node in first:
        node.middle = middle
    held_out = augment.top - 20
    tokenizer.middle = augment.bottom + 30 + tokenizer.height / 2
    lower = max(middle + half, tokenizer.bottom)
    lane_tokenizer, lane_encode = lower + 20, lower + 40
    pack, model, train = nodes["pack"], nodes["model"], nodes["train"]
    test_lane = lane_encode + 38
    second = [nodes[name] for name in ("train", "evaluate", "report")]
    stacked = pack.height + 24 + model.height
    centre = max(test_lane + 20 + max(node.height for node in second) / 2, lane_encode + 24 + stacked / 2)
    pack.middle = centre - stacked / 2 + pack.height / 2
    model.middle = centre + stacked / 2 - model.height / 2
    for node in second:
        node.middle = centre
    bottom = max(node.bottom for node in nodes.values())
    for column, node in enumerate(others):
        node.column, node.middle = column, bottom + 24 + node.height / 2
    bottom = max([bottom, *(node.bottom for node in others)])

    train_port = min(tokenizer.middle, curate.bottom - 12)
    parts = [_across(nodes["ingest"], nodes["normalize"]), _across(nodes["normalize"], curate)]
    parts += [_across(curate, augment), _across(augment, encode)]
    leave, enter = max(middle - 22, curate.top + 8), max(middle - 22, encode.top + 8)
    parts.append(route(curate.right, leave, curate.right + 14, held_out, encode.left - 16, enter, encode.left))
    leave, enter = min(middle + 26, train_port), min(middle + 22, encode.bottom - 8)
    parts.append(route(curate.right, leave, curate.right + 14, tokenizer.middle, tokenizer.left))
    parts.append(route(tokenizer.right, tokenizer.middle, encode.left - 16, enter, encode.left))
    x = tokenizer.left + _NODE / 2
    parts.append(route(x, tokenizer.bottom, x, lane_tokenizer, pack.left - 42, model.middle, model.left))
    x = encode.left + _NODE / 2
    parts.append(route(x, encode.bottom, x, lane_encode, pack.left - 24, pack.middle, pack.left))
    for node, enter in ((pack, centre - 10), (model, centre + 10)):
        parts.append(route(node.right, node.middle, node.right + 34, enter, train.left))
    evaluate, leave = nodes["evaluate"], max(pack.middle - 14, pack.top + 8)
    parts.append(route(pack.right, leave, pack.right + 18, test_lane, evaluate.left - 20, centre - 14, evaluate.left))
    parts += [_across(train, evaluate), _across(evaluate, nodes["report"])]
    parts += _flow_labels(flow, held_out, test_lane)
    parts += [node.draw() for node in (*nodes.values(), *others)]
    parts.append(legend(centre - 34, flow.differs))
    return svg(WIDTH, bottom + 8, "".join(parts), TITLE, ' class="flow"')


def _across(start: Node, end: Node) -> str:
    return route(start.right, start.middle, end.left)


def route(x: float, y: float, *turns: float) -> str:
    """A line that begins at a point, goes to each of `turns`, an x, a y, an x and so on, and ends in an arrow head."""
    points = [(x, y)]
    for place, turn in enumerate(turns):
        x, y = (x, turn) if place % 2 else (turn, y)
        points.append((x, y))
    points = list(dict.fromkeys(points))
    path = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    head = "l-4 -7h8z" if points[-2][0] == x else "l-7 -4v8z" if points[-2][0] < x else "l7 -4v8z"
    return f'<path d="M{path}" class="edge"/><path d="M{number(x)} {number(y)}{head}" class="head"/>'


def _flow_labels(flow: Flow, held_out: float, test_lane: float) -> list[str]:
    """What flows along the arrows: documents above, bytes below."""
    labels, nodes = [], flow.nodes
    for name, (documents, size) in flow.passed_on.items():
        x = nodes[name].right + (_PITCH - _NODE - 7) / 2
        labels.append(text(x, nodes[name].middle - 6, documents, "flowing", "middle"))
        labels.append(text(x, nodes[name].middle + 15, size, "flowing", "middle"))
    x = nodes["augment"].left + _NODE / 2
    labels.append(text(x, held_out - 6, flow.held_out, "flowing", "middle"))
    x = nodes["train"].left + _NODE / 2
    labels.append(text(x, test_lane - 6, flow.tested, "flowing", "middle"))
    return labels


def passed_on(run: RunData) -> dict[str, tuple[str, str]]:
    """Documents and bytes that a stage passes on for training, in words; "" where they are not known."""
    found = {}
    for name in ("ingest", "normalize", "curate", "augment"):
        summary = run.summary(name)
        documents, size = summary.get("documents_out"), summary.get("bytes_out")
        if name == "curate":
            train = (summary.get("splits") or {}).get("train") or {}
            documents, size = train.get("documents"), train.get("bytes")
        found[name] = (
            f"{formats.compact(documents)} docs" if isinstance(documents, int) else "",
            formats.size(size) if isinstance(size, int) else "",
        )
    return found


def held_out_in_words(run: RunData) -> str:
    """Documents of the validation and the test split."""
    splits = run.summary("curate").get("splits") or {}
    held = [(name, splits.get(name) or {}) for name in ("validation", "test")]
    words = [f"{name} {formats.plural(split['documents'], 'doc')}" for name, split in held if "documents" in split]
    return " · ".join(words) or "validation, test"


def tested_in_words(run: RunData) -> str:
    """Windows of the test split; "" where they are not known."""
    windows = (run.splits("pack").get("test") or {}).get("windows")
    return f"test: {formats.plural(windows, run.words.window)}" if isinstance(windows, int) else ""


def legend(top: float, differs: bool) -> str:
    """What the colours and signs mean, from a height on; and the frames of boxes where one `differs`."""
    rows = [("documents", "documents"), ("tokens", "tokens"), ("network", "model")]
    rows += [("network differs", "not the same in both")] if differs else []
    parts = []
    for index, (css, words) in enumerate(rows):
        y = top + index * 22
        parts.append(rect(0, y, 16, 12, f'rx="3" class="node {css}"'))
        parts.append(text(24, y + 10, words, "flowing"))
    parts.append(text(0, top + len(rows) * 22 + 8, "\u2212 dropped", "fact minus"))
    parts.append(text(70, top + len(rows) * 22 + 8, "+ added", "fact plus"))
    return "".join(parts)


def nodes_of(run: RunData) -> tuple[dict[str, Node], list[Node]]:
    """The boxes of the stages that have a place in the drawing, and of those that have none."""
    nodes = {
        "ingest": Node("ingest", "documents", 0, _source_facts(run)),
        "normalize": Node("normalize", "documents", 1),
        "curate": Node("curate", "documents", 2),
        "augment": Node("augment", "documents", 3),
        "tokenizer": Node("tokenizer", "tokens", 3, _tokenizer_facts(run)),
        "encode": Node("encode", "tokens", 4, _split_facts(run.splits("encode"), "tokens", "token")),
        "pack": Node("pack", "tokens", 1, _split_facts(run.splits("pack"), "windows", run.words.window)),
        "model": Node("model", "network", 1, _model_facts(run)),
        "train": Node("train", "network", 2, _train_facts(run)),
        "evaluate": Node("evaluate", "network", 3, _evaluate_facts(run)),
        "report": Node("report", "network", 4, [("", "this page, model card")]),
    }
    for name in ("ingest", "normalize", "curate", "augment"):
        nodes[name].facts += _change_facts(run.summary(name))
    if words := clusters_in_words(run.summary("curate")):
        nodes["curate"].facts.append(("", words))
    block = run.section("pack").get("block_size")
    if block:
        nodes["pack"].facts.insert(0, ("", f"block of {formats.count(block)} tokens"))
    if run.mixture:
        nodes["pack"].facts.append(("", f"mixture of {formats.plural(len(run.mixture), 'source')}"))
    added = _added(run.summary("augment"))
    if added > 0:
        nodes["augment"].facts.insert(0, ("plus", f"+ {formats.plural(added, 'document', _shown)}"))
    for node in nodes.values():
        if not node.facts:
            node.facts = [("", "nothing changed" if node.name in run.manifests else "not done")]
    return nodes, [_other_node(run, name) for name in run.manifests if name not in nodes]


def _other_node(run: RunData, name: str) -> Node:
    inputs = dict.fromkeys(place.partition("/")[0] for place in run.manifests[name].get("inputs") or ())
    return Node(name, "tokens", 0, [("", f"from {', '.join(inputs)}"), *_change_facts(run.summary(name))])


def _added(summary: Mapping[str, Any]) -> int:
    before, after = summary.get("documents_in"), summary.get("documents_out")
    if not isinstance(before, int) or not isinstance(after, int):
        return 0
    return after - before + sum((summary.get("dropped") or {}).values())


def _change_facts(summary: Mapping[str, Any]) -> list[Fact]:
    facts: list[Fact] = []
    for key, style, sign in (("changed", "", ""), ("rejected", "minus", "\u2212 "), ("dropped", "minus", "\u2212 ")):
        reasons = sorted((summary.get(key) or {}).items(), key=lambda item: (-item[1], item[0]))
        reasons = [(reason, number) for reason, number in reasons if number]
        shown = reasons if len(reasons) <= _MAX_REASONS else reasons[: _MAX_REASONS - 1]
        facts += [(style, f"{sign}{_shown(n)} {readable(reason)}") for reason, n in shown]
        if rest := reasons[len(shown) :]:
            facts.append((style, f"{sign}{_shown(sum(n for _, n in rest))} of {len(rest)} other kinds"))
    return facts


def clusters_in_words(summary: Mapping[str, Any]) -> str:
    """How many documents share a split because they are alike; "" where none do."""
    near = summary.get("near_duplicates") or {}
    if not near.get("clusters"):
        return ""
    documents = formats.plural(near["documents_in_clusters"], "document", _shown)
    return f"{documents} in {formats.plural(near['clusters'], 'cluster', _shown)}"


def _shown(value: float) -> str:
    return formats.count(value) if value < 1_000_000 else formats.compact(value)


def readable(name: str) -> str:
    """A reason or operation in words: `too_short` -> `too short`."""
    return name.replace("_", " ")


def _source_facts(run: RunData) -> list[Fact]:
    sources = run.summary("ingest").get("sources") or {}
    facts = [("", f"{name}: {formats.compact(of.get('documents', 0))}") for name, of in list(sources.items())[:3]]
    return facts + ([("", f"and {len(sources) - 3} more sources")] if len(sources) > 3 else [])


def _tokenizer_facts(run: RunData) -> list[Fact]:
    size = run.summary("tokenizer").get("vocab_size") or run.section("tokenizer").get("vocab_size")
    ratio = run.summary("tokenizer").get("bytes_per_token")
    facts = [("", f"vocabulary of {formats.count(size)}")] if size else []
    return facts + ([("", f"{formats.real(ratio, 3)} bytes per token")] if ratio else [])


def _split_facts(splits: Mapping[str, Any], key: str, noun: str) -> list[Fact]:
    return [("", f"{name}: {formats.plural(of[key], noun)}") for name, of in splits.items() if key in of]


def _model_facts(run: RunData) -> list[Fact]:
    facts = [("", f"{run.architecture}" + (f", {run.shape[0]}" if run.shape else ""))]
    if run.num_parameters:
        facts.append(("", f"{formats.compact(run.num_parameters)} parameters"))
    return facts if "model" in run.manifests else []


def _train_facts(run: RunData) -> list[Fact]:
    summary, last = run.summary("train"), run.metrics.last.get("train/loss")
    words = []
    if run.judged_so_far:
        words.append(f"so far {run.judged_so_far}")
        words += [f"loss {formats.real(last[1])}"] if last else []
    if "steps" in summary:
        words.append(formats.plural(summary["steps"], "step"))
    if "target_tokens" in summary:
        words.append(formats.plural(summary["target_tokens"], run.words.target))
    if isinstance(summary.get("epochs"), (int, float)):
        words.append(f"{summary['epochs']:.3g} epochs")
    if isinstance(summary.get("final_loss"), (int, float)):
        words.append(f"loss {formats.real(summary['final_loss'])}")
    return [("", word) for word in words]


def _evaluate_facts(run: RunData) -> list[Fact]:
    test = run.summary("evaluate").get("test") or {}
    main = run.words.main
    measured = [figure for figure in run.words.figures if isinstance(test.get(figure.key), (int, float))]
    facts = [f"{formats.written(test[main.key], main.style)} {main.name}"] if main in measured else []
    facts += [
        f"{figure.name} {formats.written(test[figure.key], figure.style)}"
        for figure in measured
        if (metric := METRIC_OF_KEY.get(figure.key)) and metric.is_headline
    ]
    return [("", fact) for fact in facts]
