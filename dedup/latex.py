"""LaTeX commands: which are characters in other words, and which only set type."""

from __future__ import annotations

NO_TEXT, DROP_FIRST_LETTER, NAME = -1, -2, -3
"""What a command stands for if it is no character: nothing; itself without its first letter (`dfrac` is `frac`); a word
of its own, its name. A command that is not listed is a name too."""

_CHARACTERS = """
alpha=α beta=β gamma=γ delta=δ epsilon=ε varepsilon=ε zeta=ζ eta=η theta=θ vartheta=θ iota=ι kappa=κ lambda=λ mu=μ
nu=ν xi=ξ pi=π varpi=π rho=ρ varrho=ρ sigma=σ varsigma=σ tau=τ upsilon=υ phi=φ varphi=φ chi=χ psi=ψ omega=ω
le=≤ leq=≤ leqslant=≤ ge=≥ geq=≥ geqslant=≥ ne=≠ neq=≠ lt=< gt=> approx=≈ equiv=≡ sim=∼ cong=≅ propto=∝
times=× cdot=⋅ div=÷ pm=± mp=∓ ast=∗ star=⋆ circ=∘ oplus=⊕ otimes=⊗ infty=∞ degree=° prime=′
in=∈ notin=∉ ni=∋ subset=⊂ subseteq=⊆ supset=⊃ supseteq=⊇ cup=∪ cap=∩ setminus=∖ emptyset=∅ varnothing=∅
forall=∀ exists=∃ land=∧ wedge=∧ lor=∨ vee=∨ neg=¬ lnot=¬
to=→ rightarrow=→ leftarrow=← leftrightarrow=↔ implies=→ iff=↔ mapsto=↦
sum=∑ prod=∏ int=∫ partial=∂ nabla=∇ sqrt=√ angle=∠ triangle=△ perp=⊥ parallel=∥ mid=| vert=| lvert=| rvert=|
lfloor=⌊ rfloor=⌋ lceil=⌈ rceil=⌉ hbar=ħ ell=l
"""
_NO_TEXT = """
left right middle big bigg bigl bigr biggl biggr bigm displaystyle textstyle
scriptstyle limits nolimits quad qquad thinspace space nonumber notag text textbf textit textrm textsf texttt
textnormal mathrm mathbf mathit mathsf mathtt mathcal mathbb mathfrak mbox hbox operatorname rm bf emph boldsymbol bm
ensuremath ldots cdots dots dotsc dotsb vdots ddots lbrace rbrace langle rangle
"""
_DROP_FIRST_LETTER = "dfrac tfrac cfrac dbinom tbinom"
_NAMES = """
not tan tanh tag textcolor tilde root raisebox rule newline newcommand node norm nmid nleq ngeq nearrow nwarrow
newpage noindent tabular table thickspace therefore tbox tfrac top triangleq twoheadrightarrow renewcommand ref rel
rlap rtimes rvert rbrack
"""
"""Commands that begin with n, r or t, which tells them from the escapes `\\n`, `\\r` and `\\t` before a word."""


def commands() -> dict[str, int]:
    """What each command stands for: a code point, or one of the constants above. Names are in lower case; \\Delta is
    looked up as \\delta, since case is folded."""
    table = dict.fromkeys(_NAMES.split(), NAME)
    table |= dict.fromkeys(_DROP_FIRST_LETTER.split(), DROP_FIRST_LETTER)
    table |= dict.fromkeys(_NO_TEXT.split(), NO_TEXT)
    table |= {name: ord(character) for name, character in (pair.split("=", 1) for pair in _CHARACTERS.split())}
    return table
