"""tasksource-instruct-v0: classification and reading as instructions, `direct`. The answer's last full stop is removed.

Only the tasks that HRM-Text lists are kept (sapientinc/data_io, `clean_tasksource`). Tasks are sampled separately
(TASK).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.formats.pairs import exclude, file_name, raw, with_task
from pipelines.formats.read import read, text_columns
from pipelines.sources.source import HUB, Source, on_hub

_LISTED = """
    acronym_identification  add_one_rte  arct  autotnli  avicenna  balanced-copa  banking77  breaking_nli
    citation_intent  cladder  clcd-english  cloth  cnli  com2sense  commonsense_qa_2.0  conceptrules_v2  CONDAQA
    conj_nli  conll2000  conll2003/chunk_tags  conll2003/ner_tags  conll2003/pos_tags  ConTRoL-nli  corr2cause
    counterfactually-augmented-imdb  counterfactually-augmented-snli  crowdflower/airline-sentiment
    crowdflower/political-media-audience  crowdflower/political-media-bias  crowdflower/political-media-message
    crowdflower/sentiment_nuclear_power  crowdflower/text_emotion  cycic_classification  cycic_multiplechoice
    dadc-limit-nli  defeasible-nli/atomic  defeasible-nli/snli  dgen  dialogue_nli  discosense
    disrpt/eng.dep.scidtb  dnc  dnd_style_intents  dynahate  dynasent/dynabench.dynasent.r1.all/r1
    dynasent/dynabench.dynasent.r2.all/r2  e-CARE  equate  esci  fever-evidence-related/mwong--fever-related
    few-nerd/supervised  fig-qa  FLUTE  folio  fool-me-twice  fracas  gen_debiased_nli/mnli_par_z
    gen_debiased_nli/mnli_seq_z  gen_debiased_nli/mnli_z_aug  gen_debiased_nli/snli_par_z
    gen_debiased_nli/snli_seq_z  gen_debiased_nli/snli_z_aug  hate_speech18  hate_speech_offensive  HatemojiBuild
    help-nli  hlgd  I2D2  implicatures  implicit-hate-stg1  jnlpba/jnlpba  language-identification  lex_glue/ledgar
    lexical_relation_classification/BLESS  lexical_relation_classification/CogALexV
    lexical_relation_classification/EVALution  lingnli  logical-fallacy  logiqa  logiqa-2.0-nli  lonli  lsat_qa/all
    mbib-base/cognitive-bias  mbib-base/gender-bias  mbib-base/hate-speech  mbib-base/political-bias
    mbib-base/racial-bias  medmcqa  MedQA-USMLE-4-options-hf  mindgames  MOH  monli  monotonicity-entailment
    moral_stories/full  mpe  mutual  nan-nli/joey234--nan-nli  natural-language-satisfiability  naturallogic
    ncbi_disease/ncbi_disease  nli-veridicality-transitivity  nli_fever  onestop_qa
    ontonotes_english/SpeedOfMagic--ontonotes_english  open_question_type  parade  PARARULE-Plus  pragmeval/emergent
    pragmeval/gum  pragmeval/mrda  pragmeval/pdtb  pragmeval/sarcasm  pragmeval/stac  pragmeval/switchboard
    pragmeval/verifiability  probability_words_nli/reasoning_1hop  probability_words_nli/reasoning_2hop
    probability_words_nli/usnli  propsegment/nli  prost  puzzte  quote-repetition  race-c  recast/recast_factuality
    recast/recast_megaveridicality  recast/recast_ner  recast/recast_puns  recast/recast_sentiment
    recast/recast_verbcorner  recast/recast_verbnet  recast_white/dpr  recast_white/fnplus  recast_white/sprl
    reclor  redefine-math  regset  riddle_sense  robust_nli/IS_CS  robust_nli/LI_LI  robust_nli/PI_CD
    robust_nli/PI_SP  robust_nli/ST_LM  robust_nli/ST_NE  robust_nli/ST_SE  robust_nli/ST_WO  robust_nli_is_sd
    robust_nli_li_ts  robustLR  rotten_tomatoes  ruletaker  rumoureval_2019/RumourEval2019  scicite
    scientific-exaggeration-detection  scinli  scone  scruples  sem_eval_2010_task_8  sen-making/1  sen-making/2
    sharc_modified/mod  sherliic  sms_spam  snips_built_in_intents  SpaceNLI  spartqa-mchoice  spartqa-yn  starcon
    subjectivity  summarize_from_feedback/comparisons  syntactic-augmentation-nli  temporal-nli  tomi-nli
    Touche23-ValueEval  tracie  TroFi  tweet_eval/emoji  tweet_eval/emotion  tweet_eval/hate  tweet_eval/irony
    tweet_eval/offensive  tweet_eval/sentiment  tweets_hate_speech_detection  twentyquestions
    twitter-financial-news-sentiment  universal_dependencies/en_ewt/deprel  universal_dependencies/en_gum/deprel
    universal_dependencies/en_lines/deprel  universal_dependencies/en_partut/deprel  vitaminc/tals--vitaminc  VUAC
    WANLI  wikimedqa/medwiki  winodict  wnut_17/wnut_17
"""
TASKS = tuple(_LISTED.split())


def _read(path: str) -> Iterator[pa.Table]:
    listed = pa.array(TASKS)
    for rows in read(path, text_columns("inputs", "targets", "task")):
        task = pc.fill_null(rows["task"], "unnamed")
        answer = pc.replace_substring_regex(rows["targets"], r"\.\z", "")
        table = exclude(
            raw(rows, rows["inputs"], answer, "direct"), ("unlisted_task", pc.invert(pc.is_in(task, listed)))
        )
        yield with_task(table, file_name(task))


TASKSOURCE = Source(
    name="tasksource",
    title="tasksource-instruct-v0, the 194 tasks that HRM-Text lists",
    home=HUB + "tasksource/tasksource-instruct-v0",
    revision="main",
    licence="Apache-2.0",
    conditions=("direct",),
    overlaps=("reclor/train",),
    path=on_hub("tasksource/tasksource-instruct-v0", "data/train-*.parquet"),
    bytes=1_063_628_199,
    part="general",
    read=_read,
)
