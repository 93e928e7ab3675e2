from __future__ import annotations

import re

from tensorboard.plugin_util import markdown_to_safe_html

from pipeline.telemetry.markdown import plain_markdown, quoted_markdown, verdict_markdown
from pipeline.telemetry.verdicts import Evidence, Verdict


def shown(markdown: str) -> str:
    """What TensorBoard's page shows, as text."""
    return re.sub("<.*?>", "", markdown_to_safe_html(markdown)).replace("&#126;", "~")


def test_a_text_is_shown_as_it_is():
    text = "# 1. *a* _b_ `c` <b>d</b> [e](f) | ~~g~~\n- h\n> i\n~~~\n```"
    for markdown in (plain_markdown(text), quoted_markdown(text)):
        assert [line for line in shown(markdown).splitlines() if line] == [
            "# 1. *a* _b_ `c` &lt;b&gt;d&lt;/b&gt; [e](f) | ~~g~~", "- h", "&gt; i", "~~~", "```"
        ]  # fmt: skip


def test_a_verdict_has_its_reason_its_remedy_and_its_source():
    evidence = Evidence(3, "norm 1e-9 in layers.0")
    bad = Verdict("updates", "stalled_updates", "warning", evidence, "raise train.learning_rate", "a paper")
    assert shown(verdict_markdown(bad)).split("\n") == [
        "warning: stalled updates norm 1e-9 in layers.0", "What to do: raise train.learning_rate", "a paper"
    ]  # fmt: skip
    over = Verdict("updates", "stalled_updates", "healthy", evidence, "raise train.learning_rate")
    assert shown(verdict_markdown(over)) == "over: stalled updates norm 1e-9 in layers.0"
    healthy = Verdict("updates", "updates", "healthy", evidence)
    assert shown(verdict_markdown(healthy)) == "healthy: updates norm 1e-9 in layers.0"
