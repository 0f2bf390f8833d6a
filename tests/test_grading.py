"""Answers found in responses and compared with references, on problems in the style of the MATH data set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from foreal_local.errors import UsageError
from foreal_local.evaluation.problems import grading
from foreal_local.evaluation.problems.datasets import Problem
from foreal_local.evaluation.problems.grading import Grade, GradedAnswer, check_installed, grade, same_answer
from foreal_local.evaluation.problems.verifier import Verifier

ROOT = Path(__file__).parent.parent

# In our own words: problem | reference solution | answer, all seven subjects. No two answers are equal.
MATH = r"""
# prealgebra
What is $\frac23$ of $\frac{9}{10}$? |
    We get $\frac23\cdot\frac9{10}=\frac{18}{30}=\boxed{\dfrac{3}{5}}$. | \frac{3}{5}
A pen is \$2.70 and a bag \$16.20. What do both cost? | Together $2.70 + 16.20 = \boxed{\$18.90}$. | \$18.90
Five sweets cost 27 cents. What does one cost? | One costs $27 \div 5 = \boxed{5.4 \text{ cents}}$. | 5.4
What percent of 50 is 5? | Since $5/50 = 1/10$, it is $\boxed{10\%}$. | 10
Forty boxes hold 250 nails each. How many nails? | $40 \cdot 250 = \boxed{10{,}000}$ nails. | 10,\!000
How many grams are 1.2 kg of rice? | A kilogram has a thousand, so $\boxed{1,\!200}$ grams. | 1200
Ana bikes 9 km in 40 min, Evelyn 12 km in 45 min. Who is faster? |
    Evelyn's 16 km/h beat 13.5: $\boxed{\text{Evelyn}}$. | \text{Evelyn}
Write $\frac95$ as a mixed number. | $9 = 1\cdot 5 + 4$, so it is $\boxed{1\frac45}$. | 1\frac{4}{5}
Write $\frac{4}{11}$ as a decimal. | Long division repeats 36: $\boxed{0.\overline{36}}$. | 0.\overline{36}
A film of 95 minutes starts at 1:45 p.m. When does it end? |
    It ends at $\boxed{\text{3:20 p.m.}}$. | 3:20 \text{ p.m.}
Two thirds of $\frac78$ cup of milk are used. How much? | That is $\boxed{\frac{7}{12}\text{ cup}}$. | \frac7{12}
What is the mean of $-9$, $2$ and $-5$? | Their sum is $-12$, so the mean is $\boxed{-4}$. | -4
Write $\frac{3}{16}$ as a decimal. | $3 \div 16 = \boxed{.1875}$. | 0.1875
A car of 57 mph drives for an hour and 20 minutes. How far? |
    It drives $\frac43\cdot 57=\boxed{76\text{ miles}}$. | 76
Is the sum of two odd numbers even or odd? | $(2a+1)+(2b+1)=2(a+b+1)$ is \boxed{\text{even}}. | \text{even}
# algebra
Solve $x^2 - 5x - 14 \le 0$. | $(x-7)(x+2)\le0$ between the roots: $\boxed{[-2,7]}$. | x \in [-2,7]
For which $x$ is $x^2-2x-15>0$? |
    Outside the roots, $\boxed{(-\infty,-3)\cup(5,\infty)}$. | (-\infty, -3) \cup (5, \infty)
Find the line of slope 2 through $(5,1)$. | From $y-1=2(x-5)$ we have $\boxed{y=2x-9}$. | y = 2x - 9
Solve $\sqrt{x-1}=4$. | Squaring, $x-1=16$ and $\boxed{x=17}$. | 17
Find the roots of $(x-3)(x-5)(x-11)$. | They are $\boxed{3, 5, 11}$. | 11,5,3
Solve $2x^2+3x-1=0$. | The formula gives $x=\boxed{\frac{-3\pm\sqrt{17}}{4}}$. | \dfrac{-3 \pm \sqrt{17}}{4}
Factor $x^2+5x-36$. | $9-4=5$, so it is $\boxed{(x-4)(x+9)}$. | (x+9)(x-4)
Expand $(2x-1)(x-3)$. | We get $2x^2-6x-x+3=\boxed{2x^2-7x+3}$. | 2x^2 - 7x + 3
Solve $3x-8>0$. | Adding 8 and dividing, $\boxed{x>\frac83}$. | x > \frac{8}{3}
Where do $x+y=1$ and $x-y=3$ meet? | Adding, $2x=4$, so at $\boxed{\left(2,-1\right)}$. | (2, -1)
Simplify $\sqrt{242}$. | $242 = 121 \cdot 2$, hence $\boxed{11\sqrt2}$. | 11\sqrt{2}
Rationalize $\frac{2}{\sqrt6}$. | $\frac{2\sqrt6}{6}=\boxed{\frac{\sqrt6}{3}}$. | \frac{\sqrt{6}}{3}
Factor $a^3+8b^3$ and give the quadratic factor. | It is $(a+2b)\boxed{(a^2-2ab+4b^2)}$. | a^2 - 2ab + 4b^2
If $a=p+r$ and $b=q+r$, write $a-b$ in $p$ and $q$. | The $r$ cancels: $\boxed{p - q}$. | p-q
The sum of the first $n$ odd numbers is 1849. Find $n$. | $n^2=1849$, so $n=\boxed{43}$. | 43
Find the range of $2-x^2$. | The square is at least 0, so $\boxed{(-\infty,2]}$. | \left(-\infty, 2\right]
Give the midpoint of $(1,0)$ and $(2,7)$. |
    It is $\boxed{\left(\frac32,\frac72\right)}$. | \left( \frac{3}{2}, \frac{7}{2} \right)
Evaluate $27^{-2/3}$ times $3$. | $\frac{3}{9}=\boxed{\tfrac13}$. | \frac{1}{3}
Solve $|x|<6$ as an inequality. | It means $\boxed{-6<x<6}$. | (-6,6)
# number theory
Write 1358 in base 8. | $1358=2\cdot512+5\cdot64+1\cdot8+6$, that is $\boxed{2516_8}$. | 2516_8
Write 53 in base 2. | $32+16+4+1$ is $\boxed{110101_2}$. | 110101_{2}
Write 300 in base 12. | $300 = 2\cdot144+1\cdot12$, so $\boxed{210_{12}}$. | 210_{12}
What is the remainder of $7^{5}$ modulo 31? | $7^5=16807=542\cdot31+5$: $\boxed{5}$. | 5
Factor 288 into primes. | $288=32\cdot9=\boxed{2^5\cdot3^2}$. | 2^5 \cdot 3^2
What is the least multiple of 45 written with fives only? | It has nine of them: $\boxed{555{,}555{,}555}$. | 555555555
Find the units digit of $3^{2023}$. | The cycle 3, 9, 7, 1 gives $\boxed{7}$. | 7
What is $10^{12}$ in digits? | A one and twelve zeros: $\boxed{1{,}000{,}000{,}000{,}000}$. | 1,000,000,000,000
Which digits $d$ make $4d2$ divisible by 3? | $6+d$ must be: $\boxed{0,3,6,9}$. | 0, 3, 6, \text{ and } 9
Is 391 prime? | $391=17\cdot23$, so \boxed{\text{No}}. | \text{no}
# counting and probability
Three of the 56 hands of three out of eight cards win. What is the chance to win? |
    It is $3 \div \binom83=\boxed{\frac{3}{56}}$. | \frac{3}{56}
Three dice: the chance of exactly two sixes, as a fraction of 216? |
    $3\cdot5=15$ of 216, or $\boxed{\frac{15}{216}}$. | \frac{5}{72}
In how many orders can six people stand? | $6!=\boxed{720}$ orders. | 720
How many ways to choose 4 of 9? | $\binom94=\boxed{126}$. | \dbinom{9}{4}
In how many orders can 12 books stand? | There are $\boxed{12!}$. | 479001600
A fair coin is thrown $n$ times. The chance of no head? | It is $\boxed{\frac{1}{2^n}}$. | \left(\frac12\right)^n
What is the expected value of one of the faces 1, 2, 4, 8? | $\frac{15}{4}=\boxed{\$3.75}$. | \$3.75
How many diagonals has a polygon of $n$ sides? | $\boxed{\frac{n(n-3)}2}$. | \frac{n^2 - 3n}{2}
# geometry
A rectangle has sides $R$ and $3R$. Its area? | It is $\boxed{3R^2}$. | 3R^2
Find the volume of a cone of radius 3 and height 8. | $\frac13\pi\cdot9\cdot8=\boxed{24\pi}$. | 24\pi
Which angle do the diagonals of a rhombus make? | They are perpendicular: $\boxed{90^\circ}$. | 90^{\circ}
Find the area of an equilateral triangle of side 12. | $\frac{\sqrt3}{4}\cdot144=\boxed{36\sqrt{3}}$. | 36\sqrt3
A triangle has base 4 cm and height 4 cm. Its area? |
    $\frac12\cdot4\cdot4=\boxed{8\text{ cm}^2}$. | 8 \text{ square cm}
Area between a circle of radius 2 and its inscribed regular triangle? | $\boxed{4\pi-3\sqrt3}$. | 4\pi - 3\sqrt{3}
Two cubes have volumes 125 and 27. The ratio of their edges? | It is $\boxed{5:3}$. | 5:3
Find the circumference of a circle of diameter $\frac{7}{2}$. | $\boxed{\dfrac{7\pi}{2}}$. | \frac{7}{2}\pi
Each inner angle of a regular polygon of 15 sides? | $180-24=\boxed{156}$ degrees. | 156^\circ
A ladder of 13 ft leans with its foot at 5 ft. How high? | $\sqrt{169-25}=\boxed{12\mbox{ ft}}$. | 12 \text{ feet}
Which statement follows, (A), (B), (C) or (D)? | By the parallel postulate, $\boxed{\text{(C)}}$. | \text{C}
Which two of (A) to (F) are similar? | Their angles agree: $\boxed{\text{(A), (D)}}$. | \text{A, D}
Find $\cos A$ in a triangle of sides 2, 3 (beside $A$) and 4. | $\frac{4+9-16}{12}=\boxed{-\frac14}$. | -0.25
# intermediate algebra
Compute $(2+i)(1-3i)+(1)$. | $2-6i+i+3+1=\boxed{6-5i}$. | 6 - 5i
Rotate $7+2i$ by a right angle. | Times $i$: $\boxed{-2+7i}$. | 7i-2
Find all real $x$ with $x^2=-3$. | There are none: $\boxed{\emptyset}$. | \varnothing
Divide $x^5+32$ by $x+2$. | The quotient is $\boxed{x^4-2x^3+4x^2-8x+16}$. | x^4 - 2x^3 + 4x^2 - 8x + 16
Give an ellipse with half axes 5 and 3. |
    $\boxed{\frac{x^2}{25}+\frac{y^2}{9}=1}$. | \frac{x^2}{25} + \frac{y^2}{9} = 1
Which $n$ satisfy $n^2+4n=12$? Separate them by commas. | $(n+6)(n-2)=0$: $\boxed{2,-6}$. | -6, 2
Which of 1 to 6 divide 24 but not 9, or are squares? As a set. | $\boxed{\{1,2,4,6\}}$. | \{1, 2, 4, 6\}
Give the domain of $\log(2x+1)$. |
    $2x>-1$, so $\boxed{\left(-\frac12,\infty\right)}$. | \left( -\frac{1}{2}, \infty \right)
Where is $\frac{1}{x-1}$ defined on $(-1,3]$? | On $\boxed{(-1,1)\cup(1,3]}$. | (-1,1) \cup (1,3]
For which $k$ has $x^2+4x+k=0$ a real root? | $16-4k\ge0$, so $\boxed{k\leq4}$. | (-\infty,4]
Solve $2^x=7$. | $x=\boxed{\log_2 7}$. | \frac{\ln 7}{\ln 2}
Find the positive root of $x^2=x+1$. | $\boxed{\frac{1+\sqrt5}2}$. | \frac{1 + \sqrt{5}}{2}
Decompose $\frac{2}{x^2-1}$. | $\boxed{\frac1{x-1}-\frac1{x+1}}$. | \frac{1}{x - 1} - \frac{1}{x + 1}
Sum $1+\frac1{3}+\frac{1}{9}+\cdots$ times $-\frac{70}{27}$. |
    $\frac32\cdot-\frac{70}{27}=\boxed{-\frac{35}{9}}$. | \frac{-35}{9}
Find the real root of $x^3=4$. | $\boxed{\sqrt[3]{4}}$. | 4^{1/3}
Find all ordered pairs $(x,y)$ of naturals with $xy=3$. | $\boxed{(1,3),(3,1)}$. | (3,1), (1,3)
How large is $(1-i)^8$ in absolute value, times $10^{-3}$? | $16\cdot10^{-3}=\boxed{1.6\times10^{-2}}$. | 0.016
# precalculus
Write $(0,3)$ in polar coordinates. | $\boxed{\left(3,\frac{\pi}{2}\right)}$. | \left( 3, \frac{\pi}{2} \right)
Rotate the vector $(1,2)$ by a right angle. |
    $\boxed{\begin{pmatrix}-2\\1\end{pmatrix}}$. | \begin{pmatrix} -2 \\ 1 \end{pmatrix}
Give the matrix of that rotation. |
    $\boxed{\begin{pmatrix}0&-1\\1&0\end{pmatrix}}$. | \begin{bmatrix} 0 & -1 \\ 1 & 0 \end{bmatrix}
Find $\cos 36^\circ$. | $\boxed{\frac{1+\sqrt5}{4}}$. | \frac{1 + \sqrt{5}}{4}
Find $\arcsin\left(-\frac{\sqrt3}{2}\right)$. | $\boxed{-\frac\pi3}$. | -\frac{\pi}{3}
Write $(-2,2\sqrt3,5)$ in cylindrical coordinates. |
    $\boxed{\left(4,\tfrac{2\pi}3,5\right)}$. | \left( 4, \frac{2 \pi}{3}, 5 \right)
Simplify $\sec^2x-1$. | $\boxed{\tan^2 x}$. | \tan^2 x
Simplify $4\sin x\cos x$. | $\boxed{2\sin 2x}$. | 2 \sin 2x
Give the plane through $(1,0,0)$ with normal $(2,-1,3)$. | $\boxed{2x-y+3z-2=0}$. | 2x - y + 3z - 2 = 0
Find the eighth roots of 1 in the open first quadrant. |
    $\boxed{\frac{\sqrt2}2+\frac{\sqrt2}2i}$. | \frac{1+i}{\sqrt{2}}
For which angles below $360^\circ$ is $\tan x=1$? | $\boxed{45^\circ,225^\circ}$. | 45^\circ, 225^\circ
Find the product $\left(1-\frac12\right)\left(1-\frac13\right)\cdots\left(1-\frac1{2^{99}}\right)$. |
    It telescopes: $\boxed{\frac1{2^{99}}}$. | 2^{-99}
And up to $2^{98}$? | Then it is $\boxed{\dfrac{1}{2^{98}}}$. | \frac{1}{2^{98}}
"""

TRIPLES = [
    tuple(part.strip() for part in row.split(" | "))
    for row in MATH.replace(" |\n", " | ").strip().splitlines()
    if not row.startswith("#")
]
PROBLEMS = [Problem(str(i), question, answer) for i, (question, _, answer) in enumerate(TRIPLES)]


def said(answer: str, right: str = "12") -> Grade:
    """The grade of a response that boxes this."""
    return grade(f"So it is $\\boxed{{{answer}}}$.", Problem("0", "", right))


# ---- other people's text ----


def test_the_problems_are_many() -> None:
    """Guards a change to the table that loses rows in silence."""
    assert len(TRIPLES) >= 90
    assert all(len(triple) == 3 for triple in TRIPLES)


@pytest.mark.parametrize("triple", TRIPLES, ids=lambda triple: triple[2])
def test_a_reference_solution_is_right(triple: tuple[str, str, str]) -> None:
    """Guards a way to write an answer that is not seen to be the same: at least 99 of 100 must be."""
    question, solution, answer = triple
    assert grade(solution, Problem("0", question, answer)).correct


@pytest.mark.parametrize("shift", [1, 7, 30, 58])
def test_a_solution_of_another_problem_is_not_right(shift: int) -> None:
    """Guards a comparison so loose that a wrong answer passes: fewer than 3 of 100 may, here none does."""
    others = PROBLEMS[shift:] + PROBLEMS[:shift]
    passed = [
        (solution, other.answer)
        for (_, solution, _), other in zip(TRIPLES, others, strict=True)
        if grade(solution, other).correct
    ]
    assert passed == []


@pytest.mark.parametrize(
    ("found", "right"),
    [
        (r"\frac12", "1/2"),
        ("0.5", r"\frac{1}{2}"),
        ("0.333333", r"\frac13"),
        ("3 1/2", r"\frac72"),
        (r"x = 3\frac{1}{2}", "3.5"),
        (r"0.08\overline{3}", r"\frac{1}{12}"),
        ("50", r"50\%"),
        ("0.5", r"50\%"),
        (r"50\%", r"\frac12"),
        ("10 percent", "0.1"),
        ("$1,234.50", r"1234.5"),
        (r"\$7.20", "7.2 \\text{ dollars}"),
        ("1{,}234{,}567", "1234567"),
        ("(1,2)", r"\left(1,\,2\right)"),
        ("1, 2", "(1,2)"),
        ("(2, 1)", "1,2"),
        ("5, 120", "120, 5"),
        (r"1+\sqrt2, 1-\sqrt2", r"1 \pm \sqrt{2}"),
        (r"2 \text{ or } 3", "3,2"),
        ("x=2, x=3", "2,3"),
        (r"-2 \le x \le 7", "[-2,7]"),
        ("3<x", r"(3,\infty)"),
        ("x > 3", "3 < x"),
        ("5!", "120"),
        (r"\textbf{(113) }", "113"),
        ("52", "52_8"),
        ("52_{8}", "52_8"),
        ("(C)", r"\text{(C)}"),
        (r"\text{Two hundred}", "two hundred"),
        ("4x = y^2", "y^2=4x"),
        (r"60^\circ \mathrm{C}", "60"),
        ("bca", "abc"),
        (r"\text{an ellipse}", r"\text{ellipse}"),
        (r"\approx 3.14", "3.14"),
        (r"7 \pmod{11}", "7"),
        (r"-2, 1+\sqrt5, 1-\sqrt5", r"\{1\pm\sqrt{5},-2\}"),
        ("3:20", r"3:20 \text{ p.m.}"),
        (r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
        (r"(1,2), (3,4)", "(3,4),(1,2)"),
        (r"\pi{r}^{2}", r"\pi r^2"),
        (r"\frac{5}{8}.", r"\frac58"),
        (r"\frac{5}{8} cups", r"\frac58"),
        (r"14\pi square inches", r"14\pi"),
        (r"\frac{1}{6} abc", r"\frac{abc}{6}"),
        (r"\mathbf{\frac{5}{8}}", "0.625"),
        (r"\boldsymbol{x+1}", "1+x"),
        (r"\cos{40^\circ}", r"\cos 40^{\circ}"),
        (r"\frac{80^\circ}{2}", "40"),
        (r"4 - 3\mathrm{i}", "4-3i"),
        ("18 cm²", "18"),
        (r"\frac{1,200}{\pi}", r"\frac{1200}{\pi}"),
        (r"\text{(D) Cone}", r"\text{(D)}"),
        (r"\textbf{(A)}\ 2(x + 1)", r"\text{(A)}"),
        (r"\begin{bmatrix} \frac12 \\[4pt] 3 \end{bmatrix}", r"\begin{pmatrix} 1/2 \\ 3 \end{pmatrix}"),
    ],
)
def test_two_ways_to_write_it(found: str, right: str) -> None:
    """Guards a right answer counted as wrong for its notation."""
    assert same_answer(found, right) is True


@pytest.mark.parametrize(
    ("found", "right"),
    [
        ("0.33", r"\frac13"),
        ("13", "12"),
        ("0.12", "12"),
        (r"1000\%", r"10\%"),
        ("31/2", r"3\frac12"),
        ("5120", "5, 120"),
        ("12, 34", "1234"),
        ("(2,1)", "(1,2)"),
        ("(0,1.5)", "(0,1)"),
        ("1, 2, 3", "2, 3, 4"),
        ("1728", r"1331 \text{ and } 1728"),
        ("[-2,7)", "[-2,7]"),
        (r"x \ge 3", "x > 3"),
        ("odd", "even"),
        ("2021", r"\pm 2021"),
        ("1:00", "12:00"),
        (r"10\text{ p.m.}", r"10\text{ a.m.}"),
        ("52_7", "52_8"),
        ("42", "52_8"),
        ("q-p", "p-q"),
        (r"2 \sin x", "2"),
        ("12xy", "12"),
        (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
        ("0", r"\frac{1}{2006!}"),
        (r"1 + \frac1e", r"1 - \frac1e"),
        ("banana", "12"),
        (r"7\mathrm{i}", "7"),
        (r"\{1,200\}", "1200"),
        (r"\text{(A), (D)}", r"\text{(A)}"),
    ],
)
def test_something_else(found: str, right: str) -> None:
    """Guards a wrong answer counted as right: a near number, part of a list, another order, unit or base."""
    assert same_answer(found, right) is False


@pytest.mark.parametrize("found", [r"\frac{1", "12}", "$$", "7" * 600, r"1, 3, \ldots, 2n-1"])
def test_what_cannot_be_read_is_told_apart(found: str) -> None:
    """Guards nonsense that counts as a wrong answer, or that keeps the grader busy."""
    assert same_answer(found, "12") is None
    assert grade("So \\boxed{12", Problem("0", "", "12")).grade is Grade.UNPARSABLE  # it may have been 120


# ---- finding the answer ----


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"First \boxed{7}, no, \boxed{\frac{\sqrt{2}}{2}}.", r"\frac{\sqrt{2}}{2}"),
        (r"$\boxed{x=\boxed{5}}$", "5"),
        (r"so $\boxed 5$.", "5"),
        (r"or \framebox{204} minutes, put in \boxed{}", "204"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        ("The answer is 3.14. I am sure that this answer is correct.", "3.14"),
        ("**Answer:** 42", "42"),
        ("### Final Answer\n\\[ 42 \\]", "42"),
        ("#### Final answer\n42", "42"),
        ("6 * 3 = <<6*3=18>>18 apples.\n#### 18", "18"),
        ("The final answer is therefore $12$ apples, since 3 * 4 = 12.", "$12$ apples"),
        ("The answer to the question is 1,234.5 km.", "1,234.5 km"),
        ("Final Answer: The final answer is $42$. I hope it is correct.", "$42$"),
        ("**Final answer**\n\nThe correct answer is: $42$.", "$42$"),
        ("The answer is $x^9 - x^7 + x^5 - x^4 + x^3 - x + 6$.", "$x^9 - x^7 + x^5 - x^4 + x^3 - x + 6$"),
        ("**42**", "42"),
    ],
)
def test_where_the_answer_stands(text: str, found: str) -> None:
    """Guards an answer that is stated and not found, or one that was taken back."""
    assert grade(text, Problem("0", "", "1")).answer == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "There are 12 apples.",
        r"Put it in \boxed{}.",
        "To find the answer: we add what stands on the left to what stands on the right of the table",
        "The answer is not 12",
        r"<think>It is \boxed{12}.</think> Hm.",
    ],
)
def test_no_answer(text: str) -> None:
    """Guards a number that happens to stand in the text, or in the reasoning, taken for the answer."""
    assert grade(text, Problem("0", "", "12")) == GradedAnswer(Grade.MISSING)


@pytest.mark.parametrize("text", ["\n" * 60_000, "answer is " * 15_000, "#### answer " * 5_000, r"\boxed{" * 10_000])
def test_a_loop_is_read_quickly(text: str) -> None:
    """Guards a pattern that takes the square of a text's length: models that loop write many thousand lines."""
    started = time.perf_counter()
    assert not grade(text, Problem("0", "", "12")).correct
    assert time.perf_counter() - started < 2.0


def test_the_answer_follows_the_reasoning() -> None:
    """Guards a guess inside the reasoning that wins over the answer after it."""
    text = r"<think>Is it \boxed{11}? The answer is 13.</think>The answer is 12."
    assert grade(text, Problem("0", "", "12")) == GradedAnswer(Grade.CORRECT, "12")


@pytest.mark.parametrize("opening", ["<think>", "[THINK]"])
def test_a_reasoning_that_does_not_end_has_no_answer(opening: str) -> None:
    """Guards a guess in the midst of the reasoning of a response that was cut off."""
    text = f"{opening}So the answer is 12. Wait, let me check that again: 9 + 3 is"
    assert grade(text, Problem("0", "", "12")) == GradedAnswer(Grade.MISSING)
    text = text.removeprefix(opening)  # where the prompt has opened it, what follows is told
    assert grade(text, Problem("0", "", "12"), "") == GradedAnswer(Grade.MISSING)
    assert grade(text, Problem("0", "", "12")).correct


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 12. Wait, no: the answer is 5.", "5"),
        ("The answer is 5. Wait, no: the answer is 12.", "12"),
        ("First guess: the answer is 20. But checking again, the final answer is 12.", "12"),
        ("The answer is 12; that is right.", "12"),
        ("The answer is Rs. 12. It costs that.", "Rs. 12"),
        ("The answer is approx. 12.5.", "approx. 12.5"),
    ],
)
def test_the_last_answer_of_a_line_counts(text: str, answer: str) -> None:
    """Guards an answer that was taken back in the same line."""
    assert grade(text, Problem("0", "", "12")).answer == answer


# ---- multiple choice ----

CHOICES = ("10 kg", "42 m/s", "B. subtilis", "10 km", r"$10^{-4}$ eV")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{B}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        (r"\boxed{b}", "B"),
        (r"\boxed{\textbf{(B) }42}", "B"),
        (r"\boxed{B \text{ (42 m/s)}}", "B"),
        (r"\boxed{Option B}", "B"),
        (r"\boxed{42\text{ m/s}}", "B"),
        (r"\boxed{10 km}", "D"),
        (r"\boxed{10^{-4} \text{ eV}}", "E"),
        (r"\boxed{\text{B. subtilis}}", "C"),
        ("The answer is (B).", "B"),
        ("Answer: B.", "B"),
        ("The answer is therefore option B, because A is slower.", "B"),
        ("(A) is slower. The correct option is B: 42 m/s", "B"),
        ("A is slower.\n\n**B**", "B"),
        ("(B)", "B"),
    ],
)
def test_letters(text: str, letter: str) -> None:
    """Guards a choice that is made in another way than by a bare letter, or by a text that begins with one."""
    problem = Problem("0", "", letter, "choice", CHOICES)
    assert grade(text, problem) == GradedAnswer(Grade.CORRECT, letter)
    wrong = Problem("0", "", "A", "choice", CHOICES)
    assert grade(text, wrong) == GradedAnswer(Grade.WRONG, letter)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The answer is A or B", Grade.UNPARSABLE),
        (r"\boxed{F}", Grade.UNPARSABLE),
        (r"\boxed{10}", Grade.UNPARSABLE),
        ("A body falls with 42 m/s", Grade.MISSING),
    ],
)
def test_no_letter(text: str, wanted: Grade) -> None:
    """Guards a letter made up where none was chosen, two were, or units decide."""
    assert grade(text, Problem("0", "", "A", "choice", CHOICES)).grade is wanted


# ---- the other process ----


def test_grading_works_in_threads() -> None:
    """Guards math-verify's own time limits, signals that only the main thread may set."""
    with ThreadPoolExecutor(4) as pool:
        grades = pool.map(lambda n: said(f"x^2 + {n}x", f"{n}x + x^2").grade, range(8))
    assert set(grades) == {Grade.CORRECT}


def test_a_comparison_without_end_is_ended() -> None:
    """Guards a response that stops the whole run; the next answer gets a fresh process."""
    verifier = Verifier(0.2, [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"])
    assert verifier.ask("a", "b") is None
    verifier.command, verifier.seconds = Verifier().command, 30.0
    assert verifier.ask("a+b", "b+a") is True
    verifier.close()


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for another process")
def test_ctrl_c_does_not_end_the_grader() -> None:
    """Guards Ctrl-C in the terminal, which reaches the other process too: the next grade would be an error."""
    verifier = Verifier()
    assert verifier.ask("a", "b") is False
    process = verifier._process
    assert process is not None
    process.send_signal(signal.SIGINT)
    assert verifier.ask("a+b", "b+a") is True
    assert verifier._process is process
    verifier.close()


def test_a_broken_installation_says_so() -> None:
    """Guards a grader that cannot start and calls every answer unparsable."""
    verifier = Verifier(command=[sys.executable, "-c", "import nothing_like_this"])
    with pytest.raises(UsageError, match=r"cannot be used \(.*nothing_like_this.*math-verify\["):
        verifier.ask("a", "b")


# ---- without the extra ----


def test_without_math_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a bundled set that cannot be graded without an extra, and a run that stops at its first formula."""
    monkeypatch.setattr(grading, "find_spec", lambda name: None)
    numbers = [Problem("0", "", "12"), Problem("1", "", "A", "choice", ("x", "y"))]
    check_installed(numbers)
    assert said("12 apples").grade is Grade.CORRECT
    assert said("13").grade is Grade.WRONG
    assert said("x+1").grade is Grade.UNPARSABLE
    with pytest.raises(UsageError, match=r"answers like 'p-q': install it with: pip install 'math-verify\["):
        check_installed([*numbers, Problem("2", "", "p-q")])
    with pytest.raises(UsageError, match="math-verify is needed"):
        said("q-p", "p-q")


def test_with_math_verify_the_check_is_silent() -> None:
    """Guards a check that fails where all is there."""
    check_installed(PROBLEMS)


def test_import_is_light() -> None:
    """Guards `foreal --help` and the bundled set: sympy takes a second, and half of it again in memory."""
    code = (
        "import sys; from foreal_local.evaluation.problems.grading import grade, Problem; "
        "print(grade('\\\\boxed{12}', Problem('0', '', '12')).grade, {'sympy', 'math_verify'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "correct set()\n"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(r"\infty", "4"), ("4", r"\infty"), (r"-\infty", r"\infty"), (r"\frac{1}{0}", "7"), ("10^{400}", r"\infty")],
)
def test_what_is_infinite_is_no_number(ours: str, theirs: str) -> None:
    """Guards a difference of infinity that is within any share of infinity."""
    assert not same_answer(ours, theirs)
    assert same_answer(r"\infty", r"\infty")
