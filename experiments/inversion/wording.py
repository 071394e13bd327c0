"""The sentences of claims about rows out of a model."""

from experiments.study.claims import Words

ABOVE_INVERTED = Words(
    "{table}: designed rows teach every model more than Algorithm 1's, by AUC, the best of each kind on validation.",
    "{rows}.",
    each="{learner} {ours:AUC} against {theirs:AUC}",
)
NEAR_ALL = Words(
    "{table}: an FM of designed rows of an FM is within 1% of one of all rows, by AUC.",
    "{ours:AUC} against {everything:AUC}.",
)
TELL_LESS = Words(
    "{table}: designed rows of an FM, and an FM that learns from them, tell less of who was in the training rows than "
    "that FM itself.",
    "AUC of the attack on that FM {teacher:AUC}; {rows}.",
    each="{name} {auc:AUC}",
)
FEW_BEAT_MANY = Words(
    "{table}: {few:,} rows of {source} teach every model more than {many:,} real rows do, by AUC.",
    "{rows}.",
    each="{learner} {ours:AUC} against {theirs:AUC}",
)
FREEZING = Words(
    "{table}: with gradient freezing, half of the rows each side, a DeepFM learns more than without, by AUC.",
    "{rows}.",
    each="{name} {auc:AUC}",
)
NORM_TERM = Words(
    "{table}: with the batch-normalisation term, Algorithm 1's rows teach every model more than without, by AUC.",
    "{rows}.",
    each="{learner} {ours:AUC} against {theirs:AUC}",
)
BETTER_THAN_SAMPLES = Words(
    "{table}: T2 and {keep} train every model better than each of these do, by AUC: {others}.",
    "Against the best of them: {rows}.",
    each="{learner} {ours:AUC} against {theirs:AUC} ({name})",
)
ABOVE_RANDOM = Words(
    "{table}, {question}: synthetic users teach every history model more than as many random ones, by AUC, the best "
    "kind of row on validation.",
    "{rows}.",
    each="{learner} {ours:AUC} against {theirs:AUC}",
)
NEAR_EVERYBODY = Words(
    "{table}, {question}: synthetic users teach every history model within 1.5% of what all users do, by AUC.",
    "{rows}.",
    each="{learner} {ours:AUC} against {theirs:AUC}",
)
