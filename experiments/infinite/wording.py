"""The sentences of all claims that the studies decide, of their causes, and nothing else."""

from experiments.study.claims import Sentence, Words

# --- table 1

OUTPERFORMS = Words("{title} outperforms every competitor.", "{found}")
AHEAD = Sentence("It is ahead of all of them in HR, NDCG and PSP.")
BEHIND = Sentence("Not behind it, theirs against ours: {rows}.", "{name}, {metrics}", "; ")
BEHIND_BY = Sentence("{rows}", "{metric} {theirs} against {ours}")
AHEAD_BY_AUC = Sentence(" By AUC, which does not count here, {names} {are} ahead.")
BOTH_FIGURES = Sentence("Here, with the paper's figure in brackets: {rows}.", "{metric} of {models}", "; ")
BESIDE = Sentence("{rows}", "{name} {ours:.2f} ({theirs:.2f})")
TUNED_EASE = Sentence(
    "EASE has NDCG@10 {ours:.2f} here, {theirs:.2f} in the paper's table: its lambda was chosen on the same validation "
    "clicks as everything else. Against EASE so tuned the claim {stands}."
)
REACHES = Words(
    "{title} reaches the paper's own figures, less {allowed:.0%}.",
    "Ours against theirs: {rows}.",
    "{name} {percent:+.1f}%",
)
TIES = Sentence(
    "On the {n_users:,} users of validation {near} of the {tried} settings tried come within a standard error, at most "
    "{error:.1f}, of the best {metric}, {best:.1f}."
)
MATCHED = Sentence(
    "The full-data model that it was distilled to match, as validation chose it, has {rows}.", "{name} {percent:.2f}"
)

# --- sample efficiency, transfer, augmentation

_BY_USERS = "{ours:HR@10} against {theirs:HR@10} at {users:,}"
FEW_USERS = Words(
    "At a tenth of the users and below, ∞-AE learns more from DISTILL-CF's users than from any sampler's, by {metric}.",
    "Against the best sampler: {rows} users.",
    _BY_USERS,
)
SATURATES = Words(
    "∞-AE on 500 synthetic users reaches at least 96% of all the data.", "{rows}.", "{metric} {percent:.1f}%"
)
RANDOM_BEST = Words(
    "Of the samplers, random users serve ∞-AE best, by {metric}.",
    "Against the best other one: {rows} users.",
    "{ours:HR@10} against {theirs:HR@10} ({name}) at {users:,}",
)
ONLY_OF_MOST = "Of these numbers of users it is the largest alone at which another sampler is ahead."
LEARNS_MORE = Words(
    "{model} learns more from DISTILL-CF's users than from as many of any sampler.",
    "HR@10 against the best sampler: {rows} users.",
    _BY_USERS,
)
GAINS_SLOWER = Words(
    "EASE gains more slowly than ∞-AE from more random interactions, and more so than from more random users.",
    "HR@10 with {many:,} users' clicks over that with {few:,} users', means: {rows}.",
    "{ease:.2f} of EASE against {infae:.2f} of ∞-AE on {source}",
    " and ",
)
BEGINS_LOWER = Sentence(
    "EASE begins lower: with {few:,} users' random interactions it has HR@10 {ease:.2f}, ∞-AE {infae:.2f}."
)
MADE_FOR_IT = Words(
    "{model} learns more from DISTILL-CF's users than from as many {what}.", "HR@10: {rows} users.", _BY_USERS
)
IMPRACTICAL = Words(
    "Realistic users are impractical to train on: the fewest of DISTILL-CF's serve better than AR-CF's most.",
    "HR@10 {ours:HR@10} against {theirs:HR@10}, of {least:,} and of {most:,}.",
)

# --- noise

BETTER_THAN_ALL = Words(
    "At {percent:g}% noise {model} is better on {users:,} users of DISTILL-CF than on all that data, by {metric}.",
    "{ours:HR@10} against {theirs:HR@10}.",
)
SMALLEST_BEST = Words(
    "At {percent:g}% noise {model} does better on the smallest summary than on the largest.",
    "HR@10 {rows} synthetic users.",
    "{values:HR@10} with {users:,}",
)
LARGEST_GAINS = Sentence("Seed by seed the largest has {rows} points more; the cause is not known.", "{points:+.2f}")
LEAD_GROWS = Words(
    "On all the data the lead of ∞-AE over {model} grows with noise.",
    "HR@10, ∞-AE less EASE, means: {before:+.2f} without noise, {after:+.2f} at {percent:g}%.",
)
LAMBDA_ON_NOISE = Sentence(
    "Its lambda is chosen on the noisy data here. See the same of {model}, which of the paper's grid comes nearest its "
    "own figures for EASE."
)
BEST_AT_NOISE = Words(
    "At {percent:g}% noise {model} does better on {users:,} users of DISTILL-CF than of any sampler.",
    "HR@10 {ours:HR@10} against {theirs:HR@10} ({name}).",
)
GAP_GROWS = Words(
    "The lead of {users:,} users of DISTILL-CF over the best sampler's grows with noise, for {model}.",
    "HR@10 above {best}, means: {before:+.1f}% without noise, {after:+.1f}% at {percent:g}%.",
)
CHANGES = Sentence("With noise HR@10 changes by {ours:+.1f}% {where}, by {theirs:+.1f}% {elsewhere}.")
COMPOUNDS = Words(
    "Sampling noisy data compounds the loss: {users:,} random users keep less of what {model} learns from all of them.",
    "HR@10 of all users', means: {before:.1f}% without noise, {after:.1f}% at {percent:g}%.",
)
HEAD_USERS_GAIN = Words(
    "At {percent:g}% noise head users gain on the other samplers from {many:,} users to {few:,}, for {model}.",
    "HR@10 above the others' mean: {on_few:+.1f}% with {few:,}, {on_many:+.1f}% with {many:,} users.",
)
WITHOUT_NOISE = Sentence("Without noise it is {on_few:+.1f}% and {on_many:+.1f}%.")

# --- continual

SERVES_BETTER = Words(
    "Users distilled from the last period serve better than {what}, by the mean.",
    "NDCG@10 {ours:NDCG@10} against {theirs:NDCG@10}; ahead in {won} of the {periods} periods with a past.",
)
IN_MOST_PERIODS = Words(
    "They serve better than ADER's exemplars in most of the periods.",
    "They are ahead in {won} of the {periods} periods with a past by the mean of seeds; in {share}% of them, seed by "
    "seed.",
)
OTHERS = {"ADER": "ADER's exemplars", "Individual": "none (Individual)", "Joint": "all the past (Joint)"}
WHY_NOT_BETTER = {
    "ADER": "ADER's pool reaches back through the exemplars it carries on, and the summary is, as in the paper, of the "
    "last period alone: that may be why.",
    "Individual": "The rows injected may be too few beside the period's own.",
    "Joint": "Joint trains on every click so far, and so has nothing to forget: that may be why.",
}

# --- depth

SHALLOW_BEST = Words(
    "∞-AE, {model}: 1 or 2 hidden layers are best.",
    "% of the best depth: {rows}.",
    "{metric} {ours} at {shallow} against {theirs} at {deep}",
    "; ",
)
DEEPER_BY = Sentence("Deeper is better by these metrics alone: {rows}.", "{metric}, by {gap:.3f}% of the best depth")
DEEPER_WORSE = Words(
    "∞-AE, {model}: models get worse as they get deeper.",
    "Mean over metrics, % of the best: {rows}.",
    "{values} at {depth}",
)
ALIKE = Sentence("Depths are nearly alike{own}: the worst is {gap:.2f}% below the best by the mean over metrics.")

# --- coldness

AHEAD_ON = Words("{name} is ahead on {what}.", "{rows}.", "bin {bin} {ours} against {theirs} of {best}", "; ")
AHEAD_ON_NOTHING = Words("{name} is ahead on {what}.", "Nothing is held out there.")
LEVEL = Sentence("The models are level: no competitor is ahead by more than {gap:.2f} points.")
SHARED_PLACES = "Bins of items share a list's places: what is won in one may be lost in others."

# --- de-anonymisation

ANONYMOUS = Words(
    "What ∞-AE learns from {name} gives away under {hidden:.0%} of users, whatever is revealed, noise or not.",
    "At most {rate}, with {revealed:.0%} revealed and {noise:g}% noise{one_missing}{two_or_more}.",
)
ONE_MISSING = Sentence(", where {percent:.2f}% of users lack a single click")
TWO_OR_MORE = Sentence("; {rate} of those who lack 2 or more")
EASILY_GUESSED = "A single missing click is easily guessed."
GIVES_AWAY = Words(
    "Samples give away tens of percent of their users, with {share:.0%} revealed and no noise.",
    "{rows}.",
    "{name} {rate}",
    "; ",
)
TOO_FEW_CLICKS = "A few random clicks of each user may be too little to tell alike users apart."
STEP_BY_STEP = Words(
    "The more {more}, the {gives} users a sample gives away.",
    "In percent, step by step: {rows}.",
    "{name} {steps}",
    "; ",
)
STEPS = Sentence("{rows}", "{rate}")
DISTILLING_HIDES = Words(
    "It is the distilling that hides users: ∞-AE of as many real users gives away over {hidden:.0%}.",
    "With {share:.0%} revealed and no noise: {rows}.",
    "{name} {rate}, and {found} of missing items found",
    "; ",
)
HARD_FOR_ALL = "To name a whole missing set is hard for any recommender: that the rate is low is no proof of anonymity."
