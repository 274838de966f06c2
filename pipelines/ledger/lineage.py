"""What happened in a run, as OpenLineage events: START, then COMPLETE, FAIL or ABORT, of the run and of each step.

A data set is a folder of a step, which can be opened, or a source with the digest of its files. The events are plain
values: the client of OpenLineage takes half a second to import, and only sending needs it (`flows/lineage.py`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import posixpath
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.credentials import masked
from pipelines.ledger import manifest as manifests
from pipelines.ledger import storage
from pipelines.ledger.manifest import Manifest
from pipelines.ledger.run import StepResult
from pipelines.ledger.step import Step

NAMESPACE = "winnow"
"""Of jobs, and of sources that are computed."""

PRODUCER = "pkg:pypi/winnow-corpus"
"""What makes the events: a package URL."""

_SPEC = "https://openlineage.io/spec/"

FACETS: dict[str, str] = {
    "parent": "facets/1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet",
    "processing_engine": "facets/1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet",
    "errorMessage": "facets/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet",
    "jobType": "facets/2-0-4/JobTypeJobFacet.json#/$defs/JobTypeJobFacet",
    "sourceCode": "facets/1-0-1/SourceCodeJobFacet.json#/$defs/SourceCodeJobFacet",
    "sourceCodeLocation": "facets/1-1-0/SourceCodeLocationJobFacet.json#/$defs/SourceCodeLocationJobFacet",
    "version": "facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet",
    "dataSource": "facets/1-0-1/DatasourceDatasetFacet.json#/$defs/DatasourceDatasetFacet",
    "schema": "facets/1-2-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet",
    "storage": "facets/1-0-1/StorageDatasetFacet.json#/$defs/StorageDatasetFacet",
    "lineage": "facets/1-0-0/LineageFacet.json#/$defs/LineageDatasetFacet",
    "outputStatistics": (
        "facets/1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet"
    ),
    "inputStatistics": "facets/1-0-0/InputStatisticsInputDatasetFacet.json#/$defs/InputStatisticsInputDatasetFacet",
}
"""Name of a facet -> its schema, below `_SPEC`."""

MAX_CODE = 20_000
"""Characters of the recipe, or of a step's parameters, that an event contains."""


class Lineage:
    """The events of one run of a recipe, in order. A step that was reused has none, since nothing ran.

    lines: the events so far, as lines of JSON.
    """

    def __init__(
        self,
        root: str,
        recipe: str,
        recipe_text: str,
        settings: Mapping[str, Any],
        now: Callable[[], str],
        emit: Callable[[str], None] = lambda line: None,
    ) -> None:
        """A run begins. recipe, recipe_text, settings: as of `runs.record`. now: the time, ISO 8601 with its offset.
        emit: is called with each event, as a line of JSON."""
        self.lines = ""
        self.root, self.recipe, self.settings = root, recipe, settings
        self._now, self._emit = now, emit
        self._id = str(uuid.uuid4())
        self._ended = False
        self._begun: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._job = _job(recipe, "JOB", "YAML", masked(recipe_text))
        self._add("START", self._id, self._job, {})

    def start(self, step: Step) -> None:
        """A step begins."""
        self._begun[step.key] = str(uuid.uuid4())
        self._add("START", self._begun[step.key], self._step_job(step), self._parent(), self._inputs(step))

    def complete(self, result: StepResult) -> None:
        """A step is finished."""
        step = result.step
        self._folders[step.key] = step.folder
        if result.reused and step.key not in self._begun:
            return
        if step.key not in self._begun:
            self.start(step)
        inputs = self._inputs(step, result.manifest)
        outputs = [self._output(result.manifest, inputs)]
        self._add("COMPLETE", self._begun[step.key], self._step_job(step), self._parent(), inputs, outputs)

    def fail(self, step: Step, error: BaseException) -> None:
        """A step failed, or was stopped if the error is no `Exception`."""
        if step.key in self._begun:
            run = self._parent() | _error(error)
            self._add(_state(error), self._begun[step.key], self._step_job(step), run, self._inputs(step))

    def end(self, error: BaseException | None = None) -> None:
        """The run is finished, or failed with this error. Called again, it does nothing."""
        if self._ended:
            return
        self._ended = True
        self._add("COMPLETE" if error is None else _state(error), self._id, self._job, _error(error) if error else {})

    def _add(
        self,
        state: str,
        run: str,
        job: dict[str, Any],
        facets: Mapping[str, Any],
        inputs: Sequence[Mapping[str, Any]] = (),
        outputs: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        engine = _facet("processing_engine", name="Winnow", version=_version(), openlineageAdapterVersion=_version())
        event = {
            "eventType": state,
            "eventTime": self._now(),
            "producer": PRODUCER,
            "schemaURL": f"{_SPEC}2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": {"runId": run, "facets": {**facets, "processing_engine": engine}},
            "job": job,
            "inputs": list(inputs),
            "outputs": list(outputs),
        }
        line = f"{json.dumps(event, sort_keys=True, ensure_ascii=False)}\n"
        self.lines += line
        self._emit(line)

    def _parent(self) -> dict[str, Any]:
        job = {"namespace": NAMESPACE, "name": self.recipe}
        return {"parent": _facet("parent", run={"runId": self._id}, job=job)}

    def _step_job(self, step: Step) -> dict[str, Any]:
        # Identities of files are facets of the sources, and may be thousands.
        parameters = {key: value for key, value in step.parameters.items() if key != "sources"}
        return _job(f"{self.recipe}.{step.name}", "TASK", "JSON", json.dumps(parameters, sort_keys=True))

    def _inputs(self, step: Step, made: Manifest | None = None) -> list[dict[str, Any]]:
        """The data sets that a step reads. made: the step when it is finished, for the rows read."""
        inputs = []
        for key in step.parents:
            folder = self._folders.get(key) or self._folder_of(key)
            inputs.append(
                _dataset(storage.join(self.root, "steps", folder), {"version": _facet("version", datasetVersion=key)})
            )
        specs = {spec["name"]: spec for spec in self.settings.get("sources", ())}
        first = 0
        for source in step.parameters.get("sources", ()):
            identities = [str(identity) for _, _, identity in source["files"]]
            facets = {"version": _facet("version", datasetVersion=_digest(identities))} if identities else {}
            entry = _dataset(
                _place(specs.get(source["name"], {})) or f"{NAMESPACE}://generated/{source['adapter']}", facets
            )
            if made is not None:
                parts = made.parts[first : first + source["items"]]
                rows = sum(part.rows_in or 0 for part in parts)
                entry["inputFacets"] = {
                    "inputStatistics": _facet("inputStatistics", rowCount=rows, fileCount=len(identities))
                }
                first += source["items"]
            inputs.append(entry)
        return inputs

    def _folder_of(self, key: str) -> str:
        """The folder of a step of another run."""
        folders = storage.folders(storage.join(self.root, "steps"))
        return next((folder for folder in folders if folder.endswith(f"-{key}")), key)

    def _output(self, made: Manifest, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        files = made.shards or made.all_files
        parquet = next((file for file in files if file.path.endswith(".parquet")), None)
        facets = {
            "version": _facet("version", datasetVersion=made.key),
            "storage": _facet("storage", storageLayer="file", fileFormat=_format(files)),
            "lineage": _facet(
                "lineage",
                inputs=[{"namespace": one["namespace"], "name": one["name"], "type": "DATASET"} for one in inputs],
            ),
        }
        if parquet is not None:
            fields = [{"name": field.name, "type": str(field.type)} for field in storage.schema(parquet.path)]
            facets["schema"] = _facet("schema", fields=fields)
        statistics = {"size": sum(file.bytes for file in files), "fileCount": len(files)}
        if made.rows_kept is not None:
            statistics["rowCount"] = made.rows_kept
        output = _dataset(posixpath.dirname(manifests.path_of(self.root, made.folder)), facets)
        output["outputFacets"] = {"outputStatistics": _facet("outputStatistics", **statistics)}
        return output


def replay(
    root: str,
    recipe: str,
    recipe_text: str,
    settings: Mapping[str, Any],
    results: Sequence[StepResult],
    now: Callable[[], str],
) -> Lineage:
    """The events of a run whose steps are finished. Those that were reused have events too."""
    lineage = Lineage(root, recipe, recipe_text, settings, now)
    for result in results:
        lineage.complete(result._replace(reused=False))
    lineage.end()
    return lineage


def _facet(kind: str, /, **fields: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": _SPEC + FACETS[kind], **fields}


def _job(name: str, kind: str, language: str, code: str) -> dict[str, Any]:
    return {
        "namespace": NAMESPACE,
        "name": name,
        "facets": {
            "jobType": _facet("jobType", processingType="BATCH", integration="WINNOW", jobType=kind),
            "sourceCode": _facet("sourceCode", language=language, sourceCode=code[:MAX_CODE]),
            "sourceCodeLocation": _facet(
                "sourceCodeLocation", type="package", url=f"{PRODUCER}@{_version()}", version=_version()
            ),
        },
    }


def _error(error: BaseException) -> dict[str, Any]:
    message = masked(str(error)) or type(error).__name__
    return {"errorMessage": _facet("errorMessage", message=message[:MAX_CODE], programmingLanguage="PYTHON")}


def _state(error: BaseException) -> str:
    return "FAIL" if isinstance(error, Exception) else "ABORT"


def _dataset(path: str, facets: Mapping[str, Any]) -> dict[str, Any]:
    """A data set by OpenLineage's names: `file` and an absolute path, or the authority of a URL and the rest."""
    scheme, separator, rest = path.partition("://")
    if separator and scheme != "file":
        authority, _, name = rest.partition("/")
        namespace = f"{scheme}://{authority}"
    else:
        namespace, name = "file", storage.absolute(path)
    source = _facet("dataSource", name=namespace, uri=path if separator else f"file://{name}")
    return {"namespace": namespace, "name": name or "/", "facets": {"dataSource": source, **facets}}


def _place(spec: Mapping[str, Any]) -> str:
    """What can be opened of a source: its file, its folder, or the common folder of its files."""
    path = spec.get("path")
    patterns = [] if path is None else [path] if isinstance(path, str) else list(path)
    places = []
    for pattern in patterns:
        wild = min((pattern.index(character) for character in "*?[" if character in pattern), default=-1)
        places.append(pattern if wild < 0 else posixpath.dirname(pattern[:wild]))
    if len(places) < 2:
        return places[0] if places else ""
    return posixpath.commonprefix([f"{place}/" for place in places]).rpartition("/")[0]


def _digest(identities: Sequence[str]) -> str:
    """The identity of a file, or a hash of those of several."""
    if len(identities) == 1:
        return identities[0]
    return hashlib.blake2b("\n".join(identities).encode(), digest_size=16).hexdigest()


def _format(files: Sequence[Any]) -> str:
    suffixes = sorted({posixpath.splitext(file.path)[1].lstrip(".") for file in files})
    return ",".join(suffixes) or "none"


def _version() -> str:
    try:
        return importlib.metadata.version("winnow-corpus")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
