"""A damaged document of a root is named, with what to do; what nobody asked for is left out."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path

import pytest

from pipelines.audit.runs import runs
from pipelines.check import check
from pipelines.curate import curate
from pipelines.errors import Damaged, DamageWarning, RunError, WinnowError
from pipelines.ledger import manifest as manifests
from pipelines.ledger.engine import LocalEngine
from pipelines.ledger.layout import LAYOUT, LAYOUT_FILE, check_layout
from pipelines.ledger.run import Run
from pipelines.ledger.runs import Attempt, open_run, read_calibration, read_scores
from pipelines.recipe import Recipe, load
from tests.steps import record_run

RECIPE = """
name: {name}
sources: [{{name: web, adapter: generated_web, rows: 60}}]
stages: []
exact_duplicates: false
near_duplicates: false
tokenizer: {{vocab_size: 512}}
sampling: {{epochs: {epochs}, context: 65}}
"""

DAMAGES = {
    "emptied": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "binary": lambda data: bytes(range(256)),
    "another encoding": lambda data: data.decode().encode("utf-16"),
    "null": lambda data: b"null\n",
    "a list": lambda data: b"[1, 2]\n",
    "no keys": lambda data: b"{}\n",
    "other types": lambda data: json.dumps(dict.fromkeys(json.loads(data), 3)).encode(),
    "deep": lambda data: b"[" * 100_000,
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Recipe], dict[str, str]]:
    folder = tmp_path_factory.mktemp("documents")
    recipes, names = {}, {}
    for number, name in enumerate(("first", "second")):
        text = RECIPE.format(name=name, epochs=number + 1)
        (folder / f"{name}.yaml").write_text(text)
        recipes[name] = load(str(folder / f"{name}.yaml"))
        run = Run(str(folder / "root"), LocalEngine())
        names[name] = record_run(run, recipes[name], curate(run, recipes[name]), text).id
    return folder / "root", recipes, names


@pytest.fixture
def root(built: tuple[Path, dict[str, Recipe], dict[str, str]], tmp_path: Path) -> Path:
    shutil.copytree(built[0], tmp_path / "root")
    return tmp_path / "root"


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.fault("a `run.json` is damaged", "an error that names it, if the run was asked for; else it is left out")
def test_a_damaged_run_is_named_and_the_others_are_found(
    built: tuple[Path, dict[str, Recipe], dict[str, str]], root: Path, how: str
) -> None:
    _, recipes, names = built
    path = root / "runs" / names["second"] / "run.json"
    path.write_bytes(DAMAGES[how](path.read_bytes()))
    with pytest.raises(RunError, match="damaged since it was written") as raised:
        open_run(str(root), names["second"])
    assert str(path) in str(raised.value) and "build the recipe again" in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.warns(DamageWarning, match="left out: .*run.json"):
        assert open_run(str(root), "latest").id == names["first"]
    with pytest.warns(DamageWarning, match="left out"):
        assert [entry.run for entry in runs(str(root)).runs] == [names["first"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        run = Run(str(root), LocalEngine())
        assert record_run(run, recipes["second"], curate(run, recipes["second"]), "text").id == names["second"]
    assert open_run(str(root), "latest").id == names["second"]


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.fault("a manifest is damaged", "an error that names it; a build makes the step again")
def test_a_damaged_manifest_is_named_and_a_build_makes_its_step_again(
    built: tuple[Path, dict[str, Recipe], dict[str, str]], root: Path, how: str
) -> None:
    _, recipes, names = built
    folder = open_run(str(root), names["first"]).steps[0].folder
    path = Path(manifests.path_of(str(root), folder))
    before = path.read_bytes()
    path.write_bytes(DAMAGES[how](before))
    with pytest.raises(RunError) as raised:
        open_run(str(root), names["first"])
    assert str(path) in str(raised.value) and "again" in str(raised.value) and "\n" not in str(raised.value)
    with pytest.warns(DamageWarning, match=r"manifest\.json: damaged since it was written"):
        assert runs(str(root)).runs[0].rows_in is None
    run = Run(str(root), LocalEngine())
    curate(run, recipes["first"])
    assert [result.step.name for result in run.results if not result.reused] == ["ingest"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["evaluations.json", "calibration.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"3", b'{"a": 1}', b"[3]"])
def test_a_damaged_list_of_scores_is_named(
    built: tuple[Path, dict[str, Recipe], dict[str, str]], root: Path, name: str, content: bytes
) -> None:
    run = open_run(str(root), "latest")
    Path(run.folder, name).write_bytes(content)
    with pytest.raises(Damaged, match=f"{name}: damaged"):
        (read_scores if name == "evaluations.json" else read_calibration)(run)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, as root can")
@pytest.mark.fault("a file of a root may not be read", "an error that says so, and not to fetch it again")
def test_a_file_that_may_not_be_read_is_told_as_such(
    built: tuple[Path, dict[str, Recipe], dict[str, str]], root: Path
) -> None:
    path = root / "runs" / built[2]["first"] / "run.json"
    path.chmod(0)
    for parent in [root, *root.parents][:4]:
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(RunError, match=r"cannot be read .Permission denied.; let this user read it"):
            open_run(str(root), built[2]["first"])
    finally:
        os.seteuid(0)


@pytest.mark.fault("a root of a newer or an older Winnow", "a refusal that says which, and what to do")
def test_a_root_of_another_layout_is_refused(
    built: tuple[Path, dict[str, Recipe], dict[str, str]], root: Path, tmp_path: Path
) -> None:
    recipe = built[1]["first"]
    layout = root / LAYOUT_FILE
    layout.write_text(json.dumps({"layout": LAYOUT + 1}))
    for command in (lambda: open_run(str(root), "latest"), lambda: runs(str(root)), lambda: check(recipe, str(root))):
        with pytest.raises(WinnowError, match=r"a newer Winnow .*update Winnow"):
            command()
    with pytest.raises(RunError, match="newer"):
        Attempt(str(root), recipe.name, "", {}, [])
    layout.write_text(json.dumps({"layout": LAYOUT - 1}))
    with pytest.raises(RunError, match=r"an older Winnow \(layout 1\); build your recipes again"):
        open_run(str(root), "latest")
    layout.unlink()
    with pytest.raises(RunError, match=r"an older Winnow \(without layout.json\); build your recipes again"):
        runs(str(root))
    run = Run(str(root), LocalEngine())
    record_run(run, recipe, curate(run, recipe), "text")
    assert open_run(str(root), built[2]["first"]).steps
    for content in (b"", b"{", b"[]", b'{"layout": "2"}', b'{"layout": true}'):
        layout.write_bytes(content)
        with pytest.raises(Damaged, match=f"{LAYOUT_FILE}: damaged"):
            check_layout(str(root))
    check_layout(str(tmp_path / "nothing"))


@pytest.mark.fault("a name of 300 characters", "refused before anything is computed")
@pytest.mark.parametrize("key", ["name", "sources.0.name"])
def test_a_name_that_is_too_long_for_a_file_is_refused_by_the_recipe(tmp_path: Path, key: str) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(name="a", epochs=1))
    with pytest.raises(WinnowError, match="at most 200 characters"):
        load(str(tmp_path / "recipe.yaml"), [f"{key}={'n' * 300}"])


@pytest.mark.fault("a line break in the name of a file", "refused before anything is computed")
@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1bb", "a\u2028b", "a\udcffb"])
def test_a_name_of_a_file_that_no_id_can_have_is_refused_before_compute(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.jsonl").write_text('{"instruction": "a", "response": "b"}\n')
    source = "sources: [{name: web, path: '*.jsonl', condition: direct}]"
    text = RECIPE.format(name="a", epochs=1).replace("sources: [{name: web, adapter: generated_web, rows: 60}]", source)
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(WinnowError, match="rename the file"):
        check(load(str(tmp_path / "recipe.yaml")), str(tmp_path / "root"))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, as root can")
@pytest.mark.fault("a folder of a root that cannot be written to", "refused before anything is computed")
@pytest.mark.parametrize("folder", ["runs", "steps", "failed"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_compute(
    built: tuple[Path, dict[str, Recipe], dict[str, str]], tmp_path: Path, folder: str
) -> None:
    root = tmp_path / "root"
    (root / folder).mkdir(parents=True)
    for parent in [root, *root.parents][:4]:
        parent.chmod(0o755)
    root.chmod(0o777)
    os.seteuid(65534)
    try:
        with pytest.raises(WinnowError, match=f"{folder}: cannot be written to"):
            check(built[1]["first"], str(root))
    finally:
        os.seteuid(0)
