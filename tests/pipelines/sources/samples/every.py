"""The samples of all sources."""

from __future__ import annotations

from tests.pipelines.sources.samples import general, mathematics, others, symbolic, thinking_and_web

SAMPLES = [*mathematics.SAMPLES, *others.SAMPLES]
RULED = [*general.RULED, *mathematics.RULED, *symbolic.RULED, *thinking_and_web.RULED]
