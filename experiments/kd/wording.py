"""The sentences of claims about distilled recommenders."""

from experiments.study.claims import Words

LEARNS_MORE = Words(
    "{data}: a student of {dim} dimensions learns more from {teacher} than alone, by H@50, in every way.",
    "Alone {alone:H@50}; {rows}.",
    each="{learner} {ours:H@50}",
)
GD_ABOVE = Words(
    "{data}, {model}: students of generated lists alone rank better than those of CD, RD and BD, by H@50.",
    "{rows}.",
    each="at {share:.0%} {ours:H@50} against {theirs:H@50} ({name})",
)
LISTS_HELP_TEACHERS = Words(
    "{data}, {model}: a teacher that learns from generated lists too ranks better, by H@50.",
    "{ours:H@50} against {theirs:H@50}.",
)
NO_DATA_NEEDED = Words(
    "{data}: on DISTILL-CF's users alone a student has at least 90% of its H@50 on real users, by every loss.",
    "{rows}.",
    each="{loss} {ours:share} ({source})",
)
