"""Proof: a second scanner, simple on purpose, that looks for marks of thinking in what the stages kept.

It shares no code and no table with the stripper, so that a mistake there is not repeated here. It removes code, makes
escaped brackets plain, and looks for any known tag or control mark wherever it stands. Most marks that it finds in good
data are mentions, in texts about tags, so they are counted and shown. Only a block that cannot be a mention is certain:
a known tag that begins a response and is closed later, or a closing tag alone on its line between text and text.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array

_REASONING = (
    r"think|thinking|thinkfast|thoughts?|reason|reasoning|reflection|scratchpad|analysis|cot|rationale|planning|monologue|"
    r"chain[-_]?of[-_]?thought|inner[-_]?monologue|ant_?thinking|seed:think|mm:think|longcat_think|reasoning_content|"
    r"(?:deep|inner|internal|my|silent|hidden|self|long|slow|fast|step)[-_](?:think|thinking|thoughts?|reasoning|reflection)|"
    r"(?:thinking|thought|reasoning)[-_](?:process|steps?|trace|content|block|section|phase)"
)
_ANSWERS = r"answer|final_answer|final_response|output"
_MARK = (
    rf"(?i)<\s*/?\s*(?:{_REASONING}|{_ANSWERS})(?:\s[^<>]{{0,200}})?>|<\|[^<>|\s]{{1,40}}\|?>|<[a-z_]{{1,30}}\|>|<unused\d+>|"
    r"\[/?think(?:ing)?\]|◁/?[^◁▷\s]{1,40}▷|<[｜|][^<>]{1,60}[｜|]>|\[\|[a-z]{1,30}\|\]|<(?:eos|bos|start_of_turn|end_of_turn|end_of_sentence|seed:[be]os|ctrl\d+)>|"
    r"<role>assistant</role>|\[(?:begin|end) final response\]|\[e~\[|"
    r"</s>\s*\z"
)
_CERTAIN = (
    rf"(?i)^\s*<\s*(?:{_REASONING})(?:\s[^<>]{{0,200}})?>(?:.|\n)*<\s*/\s*(?:{_REASONING})\s*>|"
    rf"\S\s*\n[ \t]*<\s*/\s*(?:{_REASONING})\s*>[ \t]*\r?\n\s*\S|"
    r"^\s*(?:<\|(?:channel\|?>|think\|>|(?:begin|start)(?:_of)?_?(?:thoughts?|think|thinking|reasoning)\|>|"
    r"(?:think|thinking|thoughts?|reasoning)_start\|>|im_start\|>\s*think)|"
    r"◁think▷|\[think\]|<unused94>|<ctrl94>)|"
    r"\S\s*\n[ \t]*\[BEGIN FINAL RESPONSE\][ \t]*\r?\n\s*\S"
)
# A placeholder in tags, behind other text: a form that is shown.
_FORM = (
    rf"(?i)(\S\s*)<\s*(?:{_REASONING}|{_ANSWERS})>\s*(?:\[[^\[\]]{{1,200}}\]|\{{+[^{{}}]{{1,200}}\}}+)\s*"
    rf"<\s*/\s*(?:{_REASONING}|{_ANSWERS})>"
)
# A tag that is the subject of a sentence.
_EXPLAINED = (
    rf"^\s*(?:(?i:<\s*/?\s*(?:{_REASONING})>|\[/?think\]|◁/?think▷))[`\"'*]*[ \t]+"
    r"(?:is|are|opens?|closes?|begins?|starts?|ends?|marks?|means?|and|or|tags?|tokens?)\b"
)
# An instruction with one of these words may have asked for the mark.
_MARKUP = (
    r"(?i)<|&lt;|\[/?think|◁|\b(?:xml|html|tags?|markup|templates?|prompts?|elements?|formats?|annotat\w*|documents?|tokens?|"
    r"code|scripts?|functions?|class|components?|jsx|tsx|react|vue|svelte|angular|aiml|javascript|typescript|python|page|app)\b"
)
# Fences of four marks or more, which may hold others; then those that hold none and are closed by a line of their own:
# a fence that is left open hides nothing.
_CODE = (
    r"(?s)`{4,}[^`\n]*\n.*?\n[ \t]*`{4,}[ \t]*(?:\n|\z)",
    r"```[^`\n]*\n(?:[^`]|`[^`]|``[^`])*```[ \t]*(?:\n|\z)|~~~[^~\n]*\n(?:[^~]|~[^~]|~~[^~])*~~~[ \t]*(?:\n|\z)",
    r"```[^`\n]+```|``[^`\n]+``|`[^`\n]+`",
)
_INVISIBLE = "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
_LITERALS = [
    "<",
    "◁",
    "[/",
    "[|",
    "[THINK",
    "[think",
    "[e~[",
    " FINAL RESPONSE]",
    "&lt;",
    "&amp;lt;",
    "u003c",
    "u003C",
    "＜",
    "&#60;",
    "&#x3",
    "&#X3",
]

# The first thing of a response, where it looks like a mark; what pairs it; and elements of HTML, which are none.
_OPENING = r"^\s*(<\|?[A-Za-z][\w:.-]{0,40}\|?>|◁[^◁▷/\s]{1,40}▷|\[[A-Z][A-Z_]{1,30}\]|【[^【】/\s]{1,20}】)"
_ATTRIBUTES = r"^(\s*<[A-Za-z][\w:.-]{0,40})\s[^<>]{1,200}>"
_HTML = [
    "html",
    "head",
    "body",
    "div",
    "p",
    "span",
    "table",
    "thead",
    "tbody",
    "tr",
    "td",
    "th",
    "ul",
    "ol",
    "li",
    "dl",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "b",
    "i",
    "u",
    "s",
    "em",
    "strong",
    "a",
    "code",
    "pre",
    "br",
    "hr",
    "img",
    "svg",
    "section",
    "article",
    "header",
    "footer",
    "nav",
    "main",
    "form",
    "input",
    "button",
    "select",
    "label",
    "style",
    "script",
    "details",
    "summary",
    "blockquote",
    "figure",
    "center",
    "font",
    "sub",
    "sup",
    "title",
    "link",
    "meta",
    "template",
    "math",
    "iframe",
    "video",
    "audio",
    "canvas",
    "output",
]


_COUNTS = {"source": pl.String, "name": pl.String, "rows": pl.Int64}


def marks(sources: pa.StringArray, responses: pa.StringArray) -> pl.DataFrame:
    """The rows with each mark, by source: columns source, name (the mark in lower case, without attributes), rows."""
    rows = _hinted(responses)
    if not len(rows):  # patterns are compiled for each call
        return pl.DataFrame(schema=_COUNTS)
    frame = pl.DataFrame(
        {
            "row": rows,
            "source": pl.Series(as_array(sources.take(pa.array(rows))), dtype=pl.String),
            "name": pl.Series(_plain(responses.take(pa.array(rows))), dtype=pl.String).str.extract_all(_MARK),
        }
    )
    found = frame.explode("name").drop_nulls("name")
    name = (
        pl.col("name").str.to_lowercase().str.replace_all(r"\s", " ").str.replace(r"^<\s*(/?)\s*([^\s>]+).*$", "<$1$2>")
    )
    found = found.with_columns(name.str.replace(">>", ">", literal=True))
    return found.group_by("source", "name").agg(rows=pl.col("row").n_unique().cast(pl.Int64)).sort("source", "name")


def rows_with_blocks(instructions: pa.StringArray, responses: pa.StringArray) -> npt.NDArray[np.int64]:
    """The rows, ascending, of which a block of reasoning is left for certain, and whose instruction cannot want it."""
    rows = _hinted(responses)
    if not len(rows):
        return rows
    texts = pc.replace_substring_regex(_plain(responses.take(pa.array(rows))), _FORM, r"\1 ")
    certain = pc.match_substring_regex(texts, _CERTAIN)
    rows = rows[certain.to_numpy(zero_copy_only=False)]
    if not len(rows):  # patterns are compiled for each call
        return np.zeros(0, np.int64)
    wanted = pc.match_substring_regex(instructions.take(pa.array(rows)), _MARKUP)
    wanted = pc.or_(wanted, pc.match_substring_regex(responses.take(pa.array(rows)), _EXPLAINED))
    return np.asarray(rows[~wanted.to_numpy(zero_copy_only=False)])


def suspects(sources: pa.StringArray, responses: pa.StringArray) -> pl.DataFrame:
    """The rows that begin with an unknown tag, closed before the text ends, or an unknown control mark, by source.

    Columns source, name, rows. A mark that opens many responses of a source is likely a family that is not known.
    """
    frame = pl.DataFrame(
        {"source": pl.Series(sources, dtype=pl.String), "text": pl.Series(responses, dtype=pl.String)}
    ).filter(pl.col("text").str.contains(r"(?i)^\s*(?:[<＜◁\[【]|\\?\\[u<\[]|&(?:amp;)?lt;|&#)"))
    if frame.is_empty():  # the pattern is compiled for each call
        return pl.DataFrame(schema=_COUNTS)
    plain = pl.Series(_plain(as_array(frame["text"].to_arrow().cast(pa.string()))), dtype=pl.String)
    frame = frame.with_columns(text=plain.str.replace(_ATTRIBUTES, "$1>"))
    frame = frame.with_columns(name=pl.col("text").str.extract(_OPENING)).drop_nulls("name")
    if frame.is_empty():
        return pl.DataFrame(schema=_COUNTS)
    name = pl.col("name")
    closer = (
        pl.when(name.str.starts_with("["))
        .then(name.str.replace("[", "[/", literal=True))
        .when(name.str.starts_with("【"))
        .then(name.str.replace("【", "【/", literal=True))
        .otherwise(name.str.replace("<", "</", literal=True))
    )
    control = name.str.contains(r"\||◁|^<unused\d+>")
    rest = pl.col("text").str.split(closer).list
    paired = (rest.len() > 1) & (rest.last().str.strip_chars() != "")
    html = name.str.to_lowercase().str.strip_chars("<>").is_in(_HTML)
    known = name.str.contains(rf"(?i)^(?:{_MARK.removeprefix('(?i)')})$") & ~name.str.contains(r"^<\||^<unused|^◁")
    found = frame.filter((control | (paired & ~html)) & ~known)
    return found.group_by("source", "name").agg(rows=pl.len().cast(pl.Int64)).sort("source", "name")


def _hinted(responses: pa.StringArray) -> npt.NDArray[np.int64]:
    """The rows that may hold a mark. Literals are found much faster than any pattern."""
    return np.flatnonzero(pl.Series(responses, dtype=pl.String).str.contains_any(_LITERALS).to_numpy())


def _plain(responses: pa.StringArray) -> pa.StringArray:
    """The texts without code and invisible characters, of usual width, and with plain brackets."""
    texts = responses
    for pattern in _CODE:
        texts = pc.replace_substring_regex(texts, pattern, "'" if pattern is _CODE[-1] else "\n'\n")
    wide = pc.match_substring_regex(texts, "[\uff01-\uff5e]")
    if pc.any(wide).as_py():
        texts = pc.if_else(wide, pc.utf8_normalize(texts, "NFKC"), texts)
    for pattern, plain in (
        (_INVISIBLE, ""),
        (r"(?i)&lt;|&amp;lt;|\\u003c|\\x3c|＜|&#60;|&#x3c;", "<"),
        (r"(?i)&gt;|&amp;gt;|\\u003e|\\x3e|＞|&#62;|&#x3e;", ">"),
        (r"\\([<>\[\]/])", r"\1"),
    ):
        texts = pc.replace_substring_regex(texts, pattern, plain)
    return texts
