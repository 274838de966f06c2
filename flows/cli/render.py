"""Which lines does a reader see of a typed answer? `flows.cli.answer` prints them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from flows.cli.answer import Columns, Line
from flows.console import count, quantity, unread_line
from flows.styled import Styled, bold, dim, styled, yellow

if TYPE_CHECKING:  # a command imports the types of its own answer, which is enough
    from filters.describe import StageEntry
    from flows.build import BuildAnswer
    from flows.cost import TrainingCost
    from flows.evaluate import EvaluateAnswer
    from flows.export import ExportAnswer
    from flows.prefect.train import TrainAnswer
    from flows.rescore import RescoreAnswer
    from flows.scan import ScanAnswer
    from flows.similar import SimilarAnswer
    from flows.verify import VerifyAnswer
    from pipelines.audit.changes import Cause
    from pipelines.audit.clusters import Cluster, Clusters, Member
    from pipelines.audit.diff import RunDiff, StepDiff
    from pipelines.audit.runs import Runs
    from pipelines.plan import Plan, PlannedInput
    from pipelines.sources.catalogue import SourcesAnswer
    from training.configs import TrainConfig
    from training.evaluation.difference import Difference
    from training.evaluation.scores import Score
    from training.evaluation.significance import Contrast
    from training.provenance import TracedStep

MAX_TEXT_CHARS = 2000
"""Characters of a row's text that are printed."""

CAUSES_SHOWN = 12
"""Causes of a step's change that are printed."""

WORST_HITS = 3
"""Hits that a scan quotes on the terminal. The answer has more, and the report all."""


def shorten(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """The first `limit` characters of a text, and how many were cut."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} more characters)"


def one_line(text: str, limit: int) -> str:
    """The same, with line breaks and runs of spaces as single spaces."""
    return shorten(" ".join(text.split()), limit)


# Corpus


def build_lines(answer: BuildAnswer, root: str) -> Iterator[str | Styled]:
    """A build: rows kept, and what to do next."""
    share = answer.rows_kept / max(answer.rows_in, 1)
    yield styled(
        "\n", bold(answer.run), f": {count(answer.rows_kept)} of {count(answer.rows_in)} rows kept ({share:.1%})"
    )
    if answer.manifest:
        files = "file" if answer.manifest.files == 1 else "files"
        yield f"  packs    {count(answer.manifest.files)} {files}, byte for byte those of run {answer.manifest.run}"
    if not answer.corpus:
        yield f"  text     not stored; winnow export {answer.run} --format jsonl --out FOLDER --root {root} writes it"
    yield f"  report   {answer.report}"
    yield f"  next     winnow train {answer.run} --root {root}"


def column_lines(
    columns: Mapping[str, str | Sequence[str]], names: Sequence[str], others: Sequence[str]
) -> Iterator[str | Styled]:
    """Before a scan: which columns are read, and which files among the benchmarks are not.

    columns: part of a record -> column or columns. names: all columns. others: files that hold no known evaluation set.
    """
    parts = {part: [named] if isinstance(named, str) else list(named) for part, named in columns.items()}
    unread = [name for name in names if not any(name in part for part in parts.values())]
    read = ", ".join(f"{part} is {' and '.join(map(repr, named))}" for part, named in parts.items())
    yield f"columns: {read}" + (f"; not read: {', '.join(unread)}" if unread else "")
    for path in others:
        yield yellow(f"! {path}: not a known evaluation set; to read it, name it: NAME={path}")


def scan_lines(answer: ScanAnswer, root: str) -> Iterator[str]:
    """A scan: items found per evaluation set, the worst hits, and hits by class."""
    yield ""
    for line in sorted(answer.benchmarks, key=lambda line: -line.contaminated):
        if line.contaminated:
            yield (
                f"  {line.benchmark:<24}{count(line.contaminated):>8} of {count(line.items):<8} items found"
                f" ({line.contaminated / line.items:.1%}) in {quantity(line.rows, 'row')}"
            )
    if clean := [line.benchmark for line in answer.benchmarks if not line.contaminated]:
        yield f"  no items found of {', '.join(clean)}"
    for hit in answer.worst[:WORST_HITS]:
        yield f"\n  row {hit.row} contains {hit.item}:\n    {one_line(hit.span, 160)}"
    if answer.classes:
        yield "\n  hits by class (the report explains which ones drop a row):"
    for name, counts in answer.classes.items():
        yield f"    {name:<22}{quantity(counts.rows, 'row'):>13}, {quantity(counts.items, 'item')}"
    if answer.semantic:
        yield f"\n  class paraphrase, {answer.semantic}"
    yield f"\n  report   {answer.report}"
    row = answer.worst[0].row if answer.worst else "ROW_ID"
    yield f"  next     winnow why {row} --run {answer.run} --root {root}"


def plan_lines(plan: Plan) -> Iterator[str]:
    """A plan: totals, the cost of each step, what near duplicates are found, and what is missing."""
    from dedup.probability import explain
    from pipelines.errors import UNREACHED

    yield (
        f"about {_short(plan.rows).strip()} rows, {_short(plan.text_bytes)}B of text, "
        f"{_short(plan.tokens).strip()} tokens; {_short(plan.drawn_tokens_per_epoch).strip()} tokens per epoch"
    )
    yield ""
    yield f"{'step':<18}{'core time':>12}{'range':>16}{'memory':>12}{'disk':>12}"
    for step in plan.steps:
        if step.core_hours is None:
            yield f"{step.name:<18}{'not measured':>12}"
        else:
            assert step.core_hours_range and step.memory_gb is not None and step.disk_bytes is not None
            yield _cost_line(step.name, step.core_hours, step.core_hours_range, step.memory_gb, step.disk_bytes)
    yield _cost_line("all steps", plan.core_hours, plan.core_hours_range, plan.memory_gb, plan.disk_bytes)
    rates = plan.rates
    yield (
        f"Rates measured on {rates.date} on {rates.hardware}, with {rates.text_mb:,.0f} MB of text; the range is "
        "that of several builds."
    )
    yield ""
    if plan.near_duplicates:
        yield from explain(plan.near_duplicates.banding, plan.near_duplicates.thresholds)
    for name, splits in plan.overlaps.items():
        yield f"warning: source {name} contains {', '.join(splits)} by construction"
    for name, columns in plan.unread_columns.items():
        yield f"warning: {unread_line(name, columns)}"
    if plan.missing:
        yield f"missing: {', '.join(plan.missing)}; a build fails before it computes anything"
    reasons = {entry.file: entry.why.removeprefix(f"{entry.file}: ") for entry in plan.inputs if entry.missing}
    hosts = {"/".join(file.split("/")[:3]): why for file, why in reasons.items() if why.startswith(UNREACHED)}
    yield from (f"{host} {why}" for host, why in hosts.items())
    yield from (f"{file}: {why}" for file, why in reasons.items() if why.startswith("refused"))
    if plan.missing_benchmarks:
        yield f"missing benchmarks: {', '.join(plan.missing_benchmarks)}"
    if plan.semantic:
        yield "Not included: sentence vectors (`semantic: true`), tens of rows per second and core, or a GPU."
    if plan.weighted:
        names = ", ".join(plan.weighted)
        yield f"Not included: `sampling.weights` by {names}, which change how many rows an epoch draws."
    for asked in plan.asked:
        limits = ", ".join(f"{limit:,} {name}" for name, limit in asked.budget if limit is not None)
        yield (
            f"Not included: {asked.model} at {asked.endpoint} is asked about up to "
            f"{_short(asked.rows).strip()} rows with {asked.strategy}; "
            + (f"budget: {limits}" if limits else "without a budget: set `budget: {requests: ..., tokens: ...}`")
        )
    if plan.unpriced:
        yield f"Not included (size unknown): {', '.join(plan.unpriced)}"


def input_lines(inputs: Sequence[PlannedInput]) -> Iterator[str]:
    """The inputs of a recipe: a line for each source, present and missing files apart."""
    for (name, missing), group in itertools.groupby(inputs, lambda entry: (entry.source, entry.missing)):
        files = list(group)
        first = files[0]
        if missing:
            size = "missing" + (f", {first.published_rows:,} rows" if first.published_rows else "")
        elif first.rows is not None:
            size = f"{first.rows:,} rows"
        else:
            size = f"{sum(entry.bytes or 0 for entry in files):,} bytes"
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        yield f"{name:<24}{size:>28}  {first.file}{more}"


def training_cost_lines(config: TrainConfig, answer: TrainingCost) -> list[str]:
    """The cost of a training: steps, operations, hours, dollars, memory."""
    from training.cost import cost_lines

    return cost_lines(config, answer.cost, answer.gpus, answer.price, answer.mfu, answer.peak_flops)


def export_line(answer: ExportAnswer) -> str:
    """An export: how much was written, and where."""
    folder = answer.folder
    if answer.files is None:
        return f"a transformers model in {folder}"
    return f"{quantity(answer.rows or 0, 'row')} in {quantity(len(answer.files), 'file')} below {folder}"


def source_lines(answer: SourcesAnswer) -> Iterator[str]:
    """The data sets as a table, with a warning below each that contains evaluation sets."""
    yield f"{'name':<24}{'conditions':<42}{'rows':>12}  {'licence':<24}{'revision':<10}title"
    for source in answer.sources:
        size = "any" if source.generated else "unknown" if source.rows is None else f"{source.rows:,}"
        yield (
            f"{source.name:<24}{' '.join(source.conditions):<42}{size:>12}  {source.licence:<24}{source.revision:<10}"
            + source.title
        )
        if source.overlaps:
            yield f"{'':<24}warning: contains {', '.join(source.overlaps)} by construction"


def stage_lines(stages: Sequence[StageEntry]) -> Iterator[str | Styled]:
    """The stages of recipes: a line for each, its parameters with type, unit and default, and its reasons."""
    for stage in stages:
        yield styled(bold(f"{stage.kind:<18}"), f"{stage.summary}  ", dim(f"({stage.role}, {stage.package})"))
        for parameter in stage.parameters:
            unit = f", {parameter.unit}" if parameter.unit else ""
            default = json.dumps(parameter.default, ensure_ascii=False)
            yield f"    {parameter.name}: {default}  ({parameter.type}{unit})"
        if stage.reasons:
            yield f"    reasons: {', '.join(stage.reasons)}"
    yield "`winnow stages NAME` shows one with the meaning of its parameters."


def full_stage_lines(stage: StageEntry) -> Iterator[str | Styled]:
    """One stage: what it does, each parameter with its meaning, and its reasons."""
    yield styled(bold(stage.kind), f"  ({stage.role}, package {stage.package})")
    yield f"  {stage.summary}"
    for parameter in stage.parameters:
        yield styled("\n  ", bold(parameter.name))
        yield f"      type     {parameter.type}"
        if parameter.unit:
            yield f"      unit     {parameter.unit}"
        yield f"      default  {json.dumps(parameter.default, ensure_ascii=False)}"
        if parameter.meaning:
            yield f"      meaning  {parameter.meaning}"
    if stage.reasons:
        yield f"\n  reasons  {', '.join(stage.reasons)}"


def run_lines(answer: Runs) -> Iterator[str]:
    """The runs below a root as a table."""
    if not answer.runs:
        yield f"{answer.root}: no runs here; `winnow build RECIPE --root {answer.root}` makes one"
        return
    width = max(len(entry.run) for entry in answer.runs)
    yield (
        f"{'run':<{width}}  {'time (UTC)':<21}{'status':<10}{'rows in':>12}{'rows kept':>12}{'tokens':>12}{'size':>12}"
        "  packs"
    )
    packs = {True: "present", False: "gone", None: "none"}
    for entry in answer.runs:
        rows = ("-" if rows is None else count(rows) for rows in (entry.rows_in, entry.rows_kept))
        tokens = "-" if entry.tokens is None else _short(entry.tokens).strip()
        time = entry.finished[:19].replace("T", " ")
        yield (
            f"{entry.run:<{width}}  {time:<21}{entry.status:<10}{''.join(f'{number:>12}' for number in rows)}"
            f"{tokens:>12}{_short(entry.bytes) + 'B':>12}  {packs[entry.packs]}"
        )
        if entry.status != "finished":
            at = f" at {entry.step}" if entry.step else ""
            why = entry.error or (entry.process if entry.status in ("running", "unknown") else "")
            yield f"  {entry.steps_done} of {entry.steps} steps{at}{f': {one_line(why, 300)}' if why else ''}"


def _cost_line(name: str, core_hours: float, extremes: tuple[float, float], memory_gb: float, disk_bytes: int) -> str:
    low, high = map(_time, extremes)
    between = "" if low == high else f"{low} - {high}"
    return f"{name:<18}{_time(core_hours):>12}{between:>16}{memory_gb:>9.1f} GB{_short(disk_bytes) + 'B':>12}"


def _time(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h"
    return f"{60 * hours:.0f} min" if hours >= 0.05 else f"{3600 * hours:,.0f} s"


def _short(number: float) -> str:
    """At most four digits and a prefix (k, M, G, T), to which `B` or a noun is appended."""
    for prefix in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.1f} {prefix}" if prefix else f"{number:.0f} "
        number /= 1000
    return f"{number:.1f} T"


# Audit


def similar_lines(answer: SimilarAnswer) -> Iterator[str | Styled]:
    """The similar rows, each with its Jaccard and its compared fields, and how complete the search is."""
    for match in answer.matches:
        yield styled("\n", bold(f"{match.jaccard:.3f}"), f"  {match.id}  ", dim(match.condition))
        texts = {"instruction": match.instruction, "response": match.response}
        yield from (f"  {shorten(texts[field], 600)}" for field in answer.fields)
    if not answer.matches:
        what = "words, numbers and signs" if answer.unit == "word" else "characters"
        yield (
            f"No row found that shares {answer.ngram} {what} in a row with the text. A short text has few such runs: "
            "give a longer one, or compare one field with `--on instruction`."
        )
    shares = ", ".join(f"{share:.1%} with {jaccard}" for jaccard, share in answer.found_share.items())
    yield (
        f"\n{len(answer.matches)} of {quantity(answer.candidates, 'candidate')} shown, from "
        f"{quantity(answer.rows, 'row')}; compared: {' and '.join(answer.fields)}."
    )
    yield f"Of the rows with a given Jaccard, the search finds: {shares}."


def cluster_lines(answer: Clusters) -> Iterator[Line]:
    """The largest clusters: the kept row beside dropped rows, and where they differ."""
    dropped = ", ".join(f"{count(rows)} by {step}" for step, rows in answer.rows_dropped.items())
    yield f"{quantity(answer.clusters, 'cluster')}; rows dropped: {dropped or 'none'}"
    for number, cluster in enumerate(answer.largest, 1):
        against = f" (in {cluster.against})" if cluster.against else ""
        yield (
            styled(
                "\n",
                bold(f"{number}. {quantity(cluster.rows, 'row')}"),
                f": kept {cluster.kept + against}, dropped"
                f" {count(cluster.exact)} exact and {count(cluster.near)} near duplicates",
            )
        )
        for member in cluster.members:
            similarity = _similarity(member)
            yield Columns(
                (cluster.kept, _cluster_text(cluster)),
                (f"{member.id}  ({similarity})", _pair_text(member.instruction, member.response)),
            )
            differs = "; ".join(f"{a.strip() or '(nothing)'} → {b.strip() or '(nothing)'}" for a, b in member.differs)
            same = "nothing" if member.jaccard is None else "nothing but case, spaces or punctuation"
            yield f"  differs: {one_line(differs, 400) or same}"


def _similarity(member: Member) -> str:
    """How a dropped row resembles the kept one."""
    if member.jaccard is None:
        return "exact"
    if member.reason == "same_words":
        return "same words"
    return "Jaccard " + ", ".join(f"{field} {value:.3f}" for field, value in member.jaccard.items())


def _cluster_text(cluster: Cluster) -> str:
    if cluster.instruction is None or cluster.response is None:
        return "(its run is gone)"
    return _pair_text(cluster.instruction, cluster.response)


def _pair_text(instruction: str, response: str) -> str:
    return f"{instruction}\n→ {response}"[:800]


def diff_lines(answer: RunDiff) -> Iterator[str]:
    """The difference of two runs: settings, steps and causes, sources, and rows by change, source, step and reason."""
    for path, (before, after) in answer.settings.items():
        yield f"  {path}: {_change(before, after)}"
    for step in answer.steps:
        kept = " -> ".join("-" if rows is None else count(rows) for rows in step.rows_kept)
        rows = "" if step.rows_kept == (None, None) else kept if len({*step.rows_kept}) > 1 else kept.split(" ")[0]
        first, *others = ["same"] if step.same else _causes(step)
        yield f"  {step.name:<20}{first if step.same else f'{rows:<24}{first}'}".rstrip()
        yield from (f"  {'':<44}{cause}" for cause in others)
        for reason, (before, after) in step.dropped.items():
            yield f"      {reason:<40}{count(before)} -> {count(after)}"
    changed = [one for one in answer.sources if any(len({*pair}) > 1 for pair in (one.read, one.kept, one.tokens))]
    if changed:
        width = max(8, *(len(one.source) + 2 for one in changed))
        yield f"\n  {'source':<{width}}{'rows kept':<34}{'tokens':<40}tokens drawn"
        for one in changed:
            kept, tokens, drawn = map(_arrow, (one.kept, one.tokens, one.drawn_tokens))
            yield f"  {one.source:<{width}}{kept:<34}{tokens:<40}{drawn}"
    if answer.changes:
        yield f"\n  {'rows':>9}  {'change':<15}{'source':<24}step, reason, and the first ids"
    for group in answer.changes:
        fate = f"{group.step}: {group.reason}" if group.step else _WITHOUT_STEP[group.change]
        examples = f"  {' '.join(group.examples)}" if answer.rows is None else ""
        yield (
            f"  {count(group.rows):>9}  {group.change.replace('_', ' '):<15}{group.source:<24}{fate + examples}"
        ).rstrip()
    if not answer.changes:
        yield (
            "\n  the same rows are kept"
            if any(any(one.kept) for one in answer.sources)
            else "\n  neither run keeps a row"
        )
    for row in answer.rows or ():
        fate = f"{row.step}: {row.reason}" if row.step else _WITHOUT_STEP[row.change]
        yield f"  {row.change.replace('_', ' '):<15}{f'{row.id}  {fate}'}".rstrip()


_WITHOUT_STEP = {
    "newly_kept": "not read before",
    "newly_dropped": "not read any more",
    "changed": "another text",
    "moved": "the text had another id",
}


def _causes(step: StepDiff) -> Iterator[str]:
    """Why a step is another one: a line for each cause of its own, or one with the steps that it reads."""
    own = [cause for cause in step.causes if cause.kind != "upstream"]
    if not own:
        yield "; ".join(f"reads {cause.what}" for cause in step.causes)
    for cause in own[:CAUSES_SHOWN]:
        change = _change(cause.left, cause.right)
        match cause.kind:
            case "recipe" | "parameter":
                yield f"{cause.kind}: {cause.what} {change}"
            case "code":
                is_library = "." not in cause.what
                yield f"code: {cause.what} " + (f"version {change}" if is_library else _kind_of(cause))
            case "input":
                yield f"input: {cause.what} {_kind_of(cause)}"
            case "only":
                yield f"only in the {cause.what} run"
    if len(own) > CAUSES_SHOWN:
        yield f"and {len(own) - CAUSES_SHOWN} more; `--json` has all"


def _kind_of(cause: Cause) -> str:
    return "new" if cause.left is None else "gone" if cause.right is None else "changed"


def _change(before: object, after: object) -> str:
    """Two values of a key. Of a whole section, such as a stage, that one side lacks: which side has it."""
    if before is None and isinstance(after, Mapping):
        return "added"
    if after is None and isinstance(before, Mapping):
        return "removed"
    return f"{_value(before)} -> {_value(after)}"


def _value(value: object) -> str:
    return "-" if value is None else shorten(json.dumps(value, ensure_ascii=False), 120)


def _arrow(pair: tuple[int, int]) -> str:
    before, after = pair
    return count(after) if before == after else f"{count(before)} -> {count(after)} ({after - before:+,})"


def verify_lines(answer: VerifyAnswer) -> Iterator[str]:
    """What was verified, and what the deep checks covered."""
    yield from (answer.deep)
    parts = [(answer.steps, "step"), (answer.files, "file"), (answer.rows, "row")]
    if len(answer.runs) > 1:
        parts.insert(0, (len(answer.runs), "run"))
    parts += [
        (number, noun)
        for number, noun in ((answer.checkpoints, "checkpoint"), (answer.evaluations, "evaluation"))
        if number
    ]
    yield "verified: " + ", ".join(quantity(number, noun) for number, noun in parts)


def trace_lines(answer: TracedStep) -> Iterator[str]:
    """The rows of a training step: pack, id, source and scores; then the step, its epoch, the number of rows, and
    whether its digest is the recorded one."""
    for row in answer.rows:
        scores = "  ".join(f"{name} {value:g}" for name, value in row.scores.items() if value is not None)
        yield f"{row.pack:>8}  {row.id:<52}{row.source:<28}{scores}".rstrip()
    checks = {
        True: "as in metrics.jsonl",
        False: "NOT the one in metrics.jsonl",
        None: "metrics.jsonl has no such step",
    }
    yield (
        f"\nstep {count(answer.step)} of {count(answer.total_steps)}, epoch {answer.epoch}: "
        f"{quantity(len(answer.rows), 'row')}, digest {answer.digest} ({checks[answer.same]})"
    )
    if answer.start is not None:
        yield f"the training started from {answer.start.folder}, which read other rows"


# Model


def train_lines(answer: TrainAnswer, root: str) -> Iterator[str | Styled]:
    """A training: steps, tokens, losses, and what to do next."""
    yield (
        styled(
            "\n",
            bold(answer.config),
            f": {quantity(answer.steps, 'step')}, {quantity(answer.tokens, 'token')},"
            f" train loss {answer.mean_train_loss:.3f} (mean of the last {min(50, answer.steps)} steps)",
        )
    )
    if answer.start is not None:
        yield f"  from        {answer.start}"
    if answer.validation_loss is not None:
        yield f"  validation  loss {answer.validation_loss:.3f} on held-out rows, of the last weights"
    yield f"  curve       {answer.out}/loss.png"
    yield f"  checkpoint  {answer.checkpoint}"
    yield f"  next        winnow evaluate latest --root {root}"


GENERATED_QUESTION = "In the kitchen, Anna talked with Ben about a rose. Is it an animal, a plant, a tool or a food?"
"""A question of a kind that the demo's model answers. It has not learnt sums in 500 steps."""


def evaluate_lines(answer: EvaluateAnswer, checkpoint: str, root: str) -> Iterator[str | Styled]:
    """The scores of each benchmark with their intervals, and the tests of whether contamination raises them."""
    for scores in answer.scores:
        yield styled("\n", bold(scores.benchmark), f"  {scores.checkpoint}")
        if scores.how:
            yield f"  {scores.how}"
        for name, score in (("all", scores.all), ("not found", scores.not_found), ("found", scores.found)):
            if score is not None and score.n and score.score is not None:
                yield f"  {score_line(name, score)}"
        for name, score in scores.scorers.items():
            if name != scores.scorer:
                yield f"  {score_line(name, score)}"
        if scores.all.clustered:
            clustered = scores.all.clustered
            yield (
                f"  by clusters: 95 % interval {clustered.low:.1%} to {clustered.high:.1%}, as items share "
                f"{clustered.clusters:,} passages or subjects"
            )
        if scores.measured_on == "drawn_rows":
            yield "  found: items that the rows drawn for training hold"
        elif scores.measured_on == "checked_rows":
            yield "  found: items in any row that was checked, also in rows that were dropped or not drawn"
            yield "         build again to measure the rows drawn for training"
        if scores.difference is not None:
            yield f"  {difference_line(scores.difference)}"
        yield from (f"  {line}" for line in overlap_lines(scores.overlap))
        if scores.evaluation:
            yield f"  items    {scores.evaluation}/items.parquet"
    for drawn in answer.curves:
        from training.evaluation.curve import curve_lines

        yield ""
        yield from (curve_lines(drawn.curve))
        yield f"  curve    {drawn.picture}"
    if answer.report:
        yield f"\n  report   {answer.report}"
    if not checkpoint.startswith(("http://", "https://")):
        generated = any(scores.benchmark == "generated" for scores in answer.scores)
    question = GENERATED_QUESTION if generated else "YOUR INSTRUCTION"
    yield f"  next     winnow generate {checkpoint} --root {root} '{question}'"


def score_line(name: str, score: Score) -> str:
    """A score with its interval; of multiple choice also with the credit for invalid answers."""
    line = (
        f"{name:<14}{score.correct:>6} of {score.n:<6}{score.score or 0:>7.1%}   "
        f"95 % interval {score.low or 0:.1%} to {score.high or 0:.1%}"
    )
    if score.invalid:
        line += f", {score.invalid} invalid"
    if score.credit is not None:
        line += f", {score.credit:.1%} with 1/n for each" if score.invalid else ""
    return line


def rescore_lines(answer: RescoreAnswer) -> Iterator[str | Styled]:
    """The score of each evaluation before and now, with the versions of its scorers."""
    for one in answer.evaluations:
        yield styled("\n", bold(one.scores.benchmark), f"  {one.scores.evaluation}")
        for name, score in one.scores.scorers.items():
            former = one.former.scorers.get(name) if one.former else None
            was = "not scored before" if former is None else f"before {former.score or 0:.1%}"
            yield f"  {score_line(name, score)}  ({was})"
            version, before = one.scorers[name], one.former_scorers.get(name)
            changed = f", before {before}" if before and before != version else ""
            yield f"  {'':<14}version {version + changed}"


def difference_line(difference: Difference) -> str:
    """How much items that were not found score above those found, within the subsets of the benchmark."""
    if difference.difference is None:
        return "not found minus found: no subset has items of both"
    interval = difference.clustered
    low, high = (difference.low or 0, difference.high or 0) if interval is None else (interval.low, interval.high)
    clusters = "" if interval is None else f" by {count(interval.clusters or 0)} clusters"
    return (
        f"not found minus found {100 * difference.difference:+.1f} points, 95 % interval{clusters} "
        f"{100 * low:+.1f} to {100 * high:+.1f}"
        f" ({difference.not_found} and {difference.found} items in {quantity(difference.subsets, 'subset')})"
    )


def overlap_lines(tests: Sequence[Contrast]) -> Iterator[str]:
    """HRM-Text's test: items, score and Z of each subset, and whether contamination raises the score."""
    for test in tests:
        subsets = (
            ("clean", test.clean),
            ("not clean", test.not_clean),
            ("not dirty", test.not_dirty),
            ("dirty", test.dirty),
        )
        parts = [
            f"{name} {subset.n}"
            + (f" {subset.score:.1%}" if subset.n else "")
            + (f" Z {subset.z:+.2f}" if subset.z is not None else "")
            for name, subset in subsets
        ]
        yield f"by {test.ngram}-grams  {', '.join(parts)}: {_verdict(test)}"


def _verdict(test: Contrast) -> str:
    if test.verdict == "undecidable":
        return "cannot be decided with so few (no result at this score would be significant)"
    if test.verdict == "significant":
        return "contamination raises the score"
    if test.power is None:
        return "no significant effect"
    return f"no significant effect (power {test.power:.0%} if every item that is not clean were right)"
