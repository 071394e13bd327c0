"""What a student learns of a teacher beside its own data, one file a loss.

Response: `soft_targets`, `rd`, `cd`, `bd`, `rrd`, `softmax`. Features: `hint` and its `Experts`. Relations: `topology`.
All are functions of tensors alone; what is drawn beside them is drawn by a generator that is passed.
"""
